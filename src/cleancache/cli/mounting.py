"""`mount`, `umount`, `setup`: what mount(8) does too, for those who are not root or want one command."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from cleancache.cli.options import common
from cleancache.cli.say import Say

HELPER, COMMAND = Path("/sbin/mount.cleancache"), Path("/usr/local/bin/cleancache")


@click.command()
@click.argument("source")
@click.argument("directory")
@click.option(
    "-o", "options", multiple=True, metavar="OPTION,…", help="As in fstab: cleancache=STACK, ro, max_stale=30s …"
)
@click.option("-f", "--foreground", is_flag=True, help="Stay; end with Ctrl-C or umount.")
@common
@click.pass_context
def mount(context: click.Context, source: str, directory: str, options: tuple[str, ...], foreground: bool) -> None:
    """Mount a directory or a URL: any program then reads it through the cache.

    Exit codes are those of mount(8): 0 mounted, 1 usage, 2 system, 4 our bug, 8 interrupted, 32 mount failed.
    """
    from cleancache.frontends import mount as helper

    context.exit(helper.mount(source, directory, ",".join(options), foreground=foreground))


@click.command()
@click.argument("directory")
@click.option("-l", "--lazy", is_flag=True, help="Also while somebody uses it; it ends with the last of them.")
@common
@click.pass_obj
def umount(say: Say, directory: str, lazy: bool) -> None:
    """Unmount a mount of ours; one whose process is gone too."""
    from cleancache.errors import Error
    from cleancache.frontends import unmount

    try:
        say.note(unmount.unmount(directory, lazy=lazy))
    except Error as obstacle:
        raise click.ClickException(str(obstacle)) from None


@click.command()
@click.option("--print", "only_print", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--undo", is_flag=True, help="Take the links away again.")
@common
@click.pass_obj
def setup(say: Say, only_print: bool, undo: bool) -> None:
    """Link the helper of mount(8) and the command to this environment's scripts (root)."""
    scripts = Path(sys.executable).parent
    for link, name in ((HELPER, "mount.cleancache"), (COMMAND, "cleancache")):
        script = scripts / name
        if undo:
            if link.is_symlink():
                say.out(f"rm {link}")
                if not only_print:
                    link.unlink()
            continue
        if not script.exists():
            raise click.ClickException(f"{script} is missing; install cleancache into this environment first")
        if link.exists() and not link.is_symlink():
            raise click.ClickException(f"{link} is there and no link of ours; move it away first")
        say.out(f"ln -sf {script} {link}")
        if not only_print:
            _link(script, link)


def _link(script: Path, link: Path) -> None:
    new = link.with_name(f".{link.name}.{os.getpid()}")
    try:
        new.symlink_to(script)
        new.replace(link)
    except PermissionError:
        raise click.ClickException(f"{link} is root's: sudo {' '.join(sys.argv)}") from None
