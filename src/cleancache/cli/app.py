"""The group of commands, `--version` and completion; a word that nobody knows gets the nearest known one."""

from __future__ import annotations

import os
import sys
from importlib import metadata

import click

from cleancache import __version__
from cleancache.cli.bench import bench
from cleancache.cli.flush import flush
from cleancache.cli.look import check, config, stats
from cleancache.cli.mounting import mount, setup, umount
from cleancache.cli.options import Commands, common
from cleancache.cli.read import cat, warm
from cleancache.cli.say import Say

NAME = "cleancache"
COMPLETE = "_CLEANCACHE_COMPLETE"
SHELLS = ("bash", "zsh", "fish")


def versions() -> str:
    """Ours, and of what matters when somebody reports a fault; nothing is imported for it."""
    parts = [f"python {sys.version.split()[0]}"]
    for name in ("fsspec", "lz4", "xxhash", "mfusepy"):
        try:
            parts.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            parts.append(f"{name} missing")
    return f"cleancache {__version__} ({', '.join(parts)}, kernel {os.uname().release})"


def _version(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        click.echo(versions())
        context.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show versions and exit."
)
@common
@click.pass_context
def app(context: click.Context) -> None:
    """Read any URL again from one bounded pool of spare RAM."""
    if context.color is None:
        context.color = context.ensure_object(Say).color


@app.command()
@click.argument("shell", type=click.Choice(SHELLS))
@common
@click.pass_obj
def completion(say: Say, shell: str) -> None:
    """Print the shell's completion script.

    bash: eval "$(cleancache completion bash)"
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None, "click knows the three shells of SHELLS"
    say.out(kind(app, {}, NAME, COMPLETE).source())


for _command in (cat, warm, stats, check, flush, config, bench, mount, umount, setup):
    app.add_command(_command)
