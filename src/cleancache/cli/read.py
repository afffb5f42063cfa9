"""`cat` and `warm`: bytes to stdout, and bytes into the cache ahead of time."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

import click

from cleancache.cli.access import Access, Item
from cleancache.cli.options import Flags, common, reading
from cleancache.cli.progress import Progress
from cleancache.cli.say import Say, hide
from cleancache.cli.workers import each
from cleancache.spec import size_text

PIECE_BYTES = 1 << 20  # what one read asks for: 16 pages merge into one request
STREAMS = 8  # objects under way at once: hides a latency of 100 ms, and no server minds


@click.command()
@click.argument("urls", metavar="URL...", nargs=-1, required=True)
@click.option(
    "--range", "span", metavar="START:END", help="Only these bytes; as a slice in Python, so -10: is the end."
)
@reading
@common
@click.pass_obj
def cat(say: Say, urls: tuple[str, ...], span: str | None, flags: Flags) -> None:
    """Write the bytes of each URL to stdout, read through the cache."""
    start, end = _span(span)
    with Access(flags) as access:
        for url in urls:
            items = list(access.items(url, below=False))
            if not items:
                raise click.ClickException(f"the source has nothing of this pattern: {hide(url)}")
            for item in items:
                for piece in pieces(item, start, end):
                    sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()


def _span(text: str | None) -> tuple[int | None, int | None]:
    start, colon, end = (":" if text is None else text).partition(":")
    try:
        if not colon:
            raise ValueError
        return int(start) if start.strip() else None, int(end) if end.strip() else None
    except ValueError:
        raise click.BadParameter(f"'{text}' is not START:END, as 0:100, 100: or -10:", param_hint="--range") from None


def pieces(item: Item, start: int | None = None, end: int | None = None) -> Iterator[bytes]:
    """The bytes of one version of the object, in order."""
    reader = item.place.reader
    opened = reader.open(item.name)
    if opened.size is None:
        yield reader.fetch(item.name, start, end)
        return
    first, last, _ = slice(start, end).indices(opened.size)
    for offset in range(first, last, PIECE_BYTES):
        yield reader.read(opened, offset, min(PIECE_BYTES, last - offset))


@click.command()
@click.argument("urls", metavar="URL...", nargs=-1, required=True)
@click.option("--dry-run", "-n", is_flag=True, help="Say how much it would be, and read nothing.")
@click.option("--force", is_flag=True, help="Also when it is more than the limit.")
@click.option("--json", "as_json", is_flag=True, help="One document on stdout.")
@reading
@common
@click.pass_obj
def warm(say: Say, urls: tuple[str, ...], dry_run: bool, force: bool, as_json: bool, flags: Flags) -> None:
    """Read each URL (a pattern or a directory too) into the cache ahead of time."""
    with Access(flags) as access:
        items = [item for url in urls for item in access.items(url)]
        if not items:
            raise click.ClickException(f"nothing to read at {hide(', '.join(urls))}")
        size, unknown = sum(item.size or 0 for item in items), sum(item.size is None for item in items)
        limit = access.held().limit_bytes
        count = f"{len(items)} object{'s' * (len(items) != 1)}"
        said = f"{count}, {size_text(size)}{f' and {unknown} of unknown size' * bool(unknown)}"
        if limit is None:
            raise click.ClickException(f"{said}, and no tier to keep them: 'cleancache check' says why")
        (say.out if dry_run and not as_json else say.note)(f"{said}; the limit is {size_text(limit)}")
        report: dict[str, Any] = {"objects": len(items), "bytes": size, "unknown_sizes": unknown, "limit_bytes": limit}
        if size > limit and not force:
            raise click.ClickException(
                f"{size_text(size)} is more than the limit of {size_text(limit)}: "
                "raise --limit, name fewer objects, or say --force to read all the same"
            )
        refused = [] if dry_run else _warm(say, access, items, size, report)
        if as_json:
            say.json(report)
    if refused:
        raise click.ClickException(
            f"{len(refused)} of {count} cannot be kept, as {refused[0]}; 'cleancache check URL' says what to do"
        )


def _warm(say: Say, access: Access, items: list[Item], size: int, report: dict[str, Any]) -> list[str]:
    """Read all *items* into the cache, add what came of it to *report*; what is not cached and why."""
    refused: list[str] = []
    began = time.monotonic()

    def one(item: Item) -> None:
        if not item.place.reader.warm(item.name, progress.add) and item.size != 0:
            refused.append(f"{item.name} ({item.place.reader.open(item.name).why})")

    with Progress(say, size) as progress:
        each(STREAMS, items, one)
    seconds = time.monotonic() - began
    held, read = access.held(), access.read()
    used = dict(held.used_bytes or {})
    report |= {
        "read": progress.done,
        "seconds": round(seconds, 6),
        "not_cached": len(refused),
        "source_reads": read.source_reads,
        "source_bytes": read.source_bytes,
        "resident_pages": held.resident_pages,
        "used_bytes": used,
        "logical_bytes": held.logical_bytes,
        "unique_bytes": held.unique_bytes,
    }
    rate = size_text(int(progress.done / max(seconds, 1e-6)))
    say.note(
        f"{size_text(progress.done)} in {seconds:.1f} s ({rate}/s), {read.source_reads} requests to the source; "
        f"held: {held.resident_pages or 0} pages in {size_text(sum(used.values()))}"
    )
    say.note("the pages of a zcache end with this process: a program that reads warms its own")
    return refused
