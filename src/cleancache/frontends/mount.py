"""`mount.cleancache SRC DIR [-sfnv] [-o OPTIONS]`, the helper of mount(8); and what `cleancache mount` calls.

The parent parses, forks, and waits until the mount answers or the child has said in one sentence why there is none; so
mount(8), fstab and a shell see the truth in the exit code: 0 mounted, 1 usage, 2 system, 4 our bug, 8 interrupted,
32 mount failed. Everything heavy is loaded in the child, after the fork; here are light imports only.
"""

from __future__ import annotations

import os
import signal
import stat
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cleancache.errors import Error, SpecError

if TYPE_CHECKING:
    from cleancache.frontends.fuse.options import MountOptions

MOUNTED, USAGE, SYSTEM, BUG, INTERRUPTED, FAILED = 0, 1, 2, 4, 8, 32
USAGE_TEXT = "usage: mount.cleancache SOURCE DIRECTORY [-sfnv] [-o OPTION,…]"


def main(arguments: Sequence[str] | None = None) -> int:
    """What mount(8) runs; the answer is the exit code."""
    words, source, where, text = list(sys.argv[1:] if arguments is None else arguments), None, None, ""
    is_dry = False
    while words:
        word = words.pop(0)
        if word == "-o":
            if not words:
                return say(f"-o wants options; {USAGE_TEXT}", USAGE)
            text = ",".join(part for part in (text, words.pop(0)) if part)
        elif word.startswith("-o"):
            text = ",".join(part for part in (text, word[2:]) if part)
        elif word in ("-h", "--help"):
            print(USAGE_TEXT)
            return MOUNTED
        elif word in ("-V", "--version"):
            from cleancache import __version__

            print(f"mount.cleancache {__version__}")
            return MOUNTED
        elif word in ("-t", "-N") and words:
            words.pop(0)  # the type, and a namespace that mount(8) has entered already
        elif word.startswith("-") and len(word) > 1 and set(word[1:]) <= set("sfnvrw"):
            is_dry |= "f" in word
            text = f"{text},ro" if "r" in word else text
        elif word.startswith("-"):
            return say(f"{word!r} is no flag; {USAGE_TEXT}", USAGE)
        elif source is None:
            source = word
        elif where is None:
            where = word
        else:
            return say(f"{word!r} is one word too many; {USAGE_TEXT}", USAGE)
    if source is None or where is None:
        return say(USAGE_TEXT, USAGE)
    return mount(source, where, text, is_dry=is_dry)


def say(text: str, code: int) -> int:
    """One line on stderr."""
    print(f"cleancache: {text}", file=sys.stderr)
    return code


def mount(source: str, where: str, text: str, *, foreground: bool = False, is_dry: bool = False) -> int:
    """Mount *source* at *where* with the options *text*; the exit code of mount(8)."""
    from cleancache.frontends.fuse import options

    try:
        parsed = options.parse(text)
        if parsed.is_remount:
            return say(f"{where}: a remount can change nothing here; unmount it and mount it anew", FAILED)
        where = mountpoint(where)
        source = place(source)
        refuse_loop(source, where)
        device()
    except SpecError as mistake:
        return say(str(mistake), USAGE)
    except Error as obstacle:
        return say(str(obstacle), FAILED)
    except OSError as error:
        return say(f"{error.filename or where}: {error.strerror}", FAILED)
    if "HOME" not in os.environ:
        import pwd

        try:
            os.environ["HOME"] = pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:
            os.environ["HOME"] = "/"
    try:
        return _run(source, where, parsed, foreground=foreground, is_dry=is_dry)
    except KeyboardInterrupt:
        return say("interrupted", INTERRUPTED)


def mountpoint(where: str) -> str:
    """*where*, absolute; a dead mount there is taken away first.

    Raises: Error, with the remedy.
    """
    path = os.path.realpath(where) if not is_dead(where) else os.path.abspath(where)
    if is_dead(path):
        from cleancache.frontends import unmount

        unmount.detach_dead(path)
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise Error(f"{where} does not exist; make it first: mkdir -p {where}") from None
    if not stat.S_ISDIR(status.st_mode):
        raise Error(f"{where} is no directory; a mount needs one")
    if os.geteuid() != 0 and not os.access(path, os.W_OK):
        raise Error(f"{where} is not yours to mount on; fusermount3 wants a directory you can write to")
    return path


def is_dead(path: str) -> bool:
    """Say whether a mount is there whose process is gone."""
    import errno

    try:
        os.stat(path)
    except OSError as error:
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


def place(source: str) -> str:
    """The absolute path of a directory, or a URL as it is.  Raises: Error, where it is neither."""
    if "://" in source and not source.startswith(("file://", "local://")):
        return source
    path = os.path.abspath(source.removeprefix("local://").removeprefix("file://"))
    try:
        status = os.stat(path)
    except OSError as error:
        raise Error(
            f"{source}: {error.strerror}; the source is a directory or a URL such as s3://bucket/data"
        ) from None
    if not stat.S_ISDIR(status.st_mode):
        raise Error(f"{source} is a file; mount the directory that it is in")
    return os.path.realpath(path)


def refuse_loop(source: str, where: str) -> None:
    """A mount that reads itself would wait for itself (X61)."""
    from cleancache import config

    inside = os.path.join(where, "")
    if "://" not in source and os.path.join(source, "").startswith(inside):
        raise Error(f"{source} lies inside {where}: the mount would read itself; choose another directory")
    for path in config.files(os.environ, config.ETC):
        if str(path.resolve()).startswith(inside):
            raise Error(f"the configuration {path} lies inside {where}: the mount would read itself")


def device() -> None:
    """Raises: Error, where there is no FUSE."""
    if not os.path.exists("/dev/fuse"):
        raise Error("there is no /dev/fuse; load it with 'modprobe fuse', or give the container --device /dev/fuse")


def _run(source: str, where: str, options: MountOptions, *, foreground: bool, is_dry: bool) -> int:
    """Serve in this process (*foreground*), or in a child that says when it is ready."""
    if foreground or is_dry:
        from cleancache.frontends.fuse import serve

        return serve.run(source, where, options, ready=None, is_dry=is_dry)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        code = BUG
        try:
            os.setsid()
            from cleancache.frontends.fuse import serve

            code = serve.run(source, where, options, ready=writer)
        except BaseException as error:  # the edge of the process: the parent is told, or nobody would be
            import traceback

            traceback.print_exception(error)
        finally:
            os._exit(code)
    os.close(writer)
    try:
        return _await(child, reader, where)
    except KeyboardInterrupt:
        os.kill(child, signal.SIGTERM)
        raise
    finally:
        os.close(reader)


def _await(child: int, reader: int, where: str) -> int:
    """What the child says: its exit code, or that it died (X63)."""
    answer = os.read(reader, 64)
    if answer == b"ready":
        return MOUNTED
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code > 0:
        return code
    if is_dead(where):
        from cleancache.frontends import unmount

        unmount.detach_dead(where)
    return say(f"{where}: the mount's process ended ({code}) before the mount answered", FAILED)
