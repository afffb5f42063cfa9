"""The command `cleancache`: each subcommand is one verb on one kind of thing.

Data goes to stdout, everything else to stderr. Exit codes: 0 done, 1 asked and failed or "no", 2 usage, 130
interrupted, 141 the reader of stdout went away. click's own ending gives 1 for the last two, so the ending is here. A
person's mistake or an error of the source is one sentence; `-v` adds the traceback. Loaded at start: click and the
standard library; fsspec comes with the first URL.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Sequence

import click

from cleancache.cli.app import COMPLETE, NAME, app
from cleancache.cli.say import Say, sentence
from cleancache.errors import SpecError

DONE, FAILED, USAGE, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, 130, 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the answer is the exit code of the process.

    >>> main(["config", "shwo"])
    2
    """
    if instruction := os.environ.get(COMPLETE):
        from click.shell_completion import shell_complete

        return shell_complete(app, {}, NAME, COMPLETE, instruction)
    given = list(sys.argv[1:] if arguments is None else arguments)
    if is_of_mount(given):
        from cleancache.frontends import mount

        return mount.main(given)
    say = Say()
    try:
        code = _run(given, say)
        sys.stdout.flush()
    except KeyboardInterrupt:
        say.problem("interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # at the last flush
        return _give_up_stdout()
    return code


def is_of_mount(words: Sequence[str]) -> bool:
    """Say whether this is how mount(8) calls for `-t fuse.cleancache`: `cleancache SRC DIR -o …`, without a command.

    >>> is_of_mount(["s3://b/x", "/mnt", "-o", "rw,dev"]), is_of_mount(["mount", "s3://b/x", "/mnt"])
    (True, False)
    """
    return len(words) >= 4 and words[0] not in app.commands and not words[0].startswith("-") and words[2] == "-o"


def _run(arguments: list[str], say: Say) -> int:
    try:
        with app.make_context(NAME, arguments, obj=say) as context:
            app.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.exceptions.NoArgsIsHelpError as mistake:
        mistake.show()
        return USAGE
    except click.UsageError as mistake:
        path = mistake.ctx.command_path if mistake.ctx else NAME
        say.problem(f"{mistake.format_message()} (see '{path} --help')")
        return USAGE
    except click.ClickException as answer:
        say.problem(answer.message)
        return FAILED
    except SpecError as mistake:
        say.problem(str(mistake))
        return USAGE
    except click.Abort:
        raise KeyboardInterrupt from None
    except Exception as error:  # the edge of the process: whatever a source raises becomes one sentence
        if isinstance(error, BrokenPipeError) and _stdout_is_gone():
            return _give_up_stdout()
        say.problem(sentence(error))
        if say.verbose:
            import traceback

            traceback.print_exception(error)
        return FAILED
    return DONE


def _stdout_is_gone() -> bool:
    """Tell a closed stdout from a source whose connection broke: both are EPIPE."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    except (OSError, ValueError):
        return False


def _give_up_stdout() -> int:
    """Nothing that is still buffered may raise while the interpreter ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    return BROKEN_PIPE
