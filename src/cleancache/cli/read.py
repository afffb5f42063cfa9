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
            for item in access.items(url):
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
        size, unknown = sum(item.size or 0 for item in items), sum(item.size is None for item in items)
        limit = sum(pool.stats().limit_bytes or 0 for pool in access.pools.values())
        said = f"{len(items)} objects, {size_text(size)}" + (f" and {unknown} of unknown size" if unknown else "")
        say.note(f"{said}; the limit is {size_text(limit)}" if limit else said)
        report: dict[str, Any] = {
            "objects": len(items),
            "bytes": size,
            "unknown_sizes": unknown,
            "limit_bytes": limit,
            "dry_run": dry_run,
        }
        if not items:
            raise click.ClickException(f"nothing to read at {hide(', '.join(urls))}")
        if size > limit and not force:
            raise click.ClickException(
                f"{size_text(size)} is more than the limit of {size_text(limit)}: "
                "raise --limit, name fewer objects, or say --force to read all the same"
            )
        if not dry_run:
            began = time.monotonic()
            with Progress(say, size) as progress:
                each(STREAMS, items, lambda item: _read(item, progress))
            seconds = time.monotonic() - began
            report |= outcome(access, progress.done, seconds)
            rate = size_text(int(progress.done / max(seconds, 1e-6)))
            say.note(
                f"{size_text(progress.done)} in {seconds:.1f} s ({rate}/s), {report['source_reads']} requests to it"
            )
            say.note(f"held: {report['resident_pages']} pages, {size_text(sum(report['used_bytes'].values()))}")
            say.note(
                "the pages of a zcache end with this process: it is the program that reads which has to warm its own"
            )
        if as_json:
            say.json(report)
        elif dry_run:
            say.out(said)


def _read(item: Item, progress: Progress) -> None:
    for piece in pieces(item):
        progress.add(len(piece))


def outcome(access: Access, done: int, seconds: float) -> dict[str, Any]:
    """Figures of what was read, as in `Stats`."""
    stats = access.stats()
    return {
        "read": done,
        "seconds": round(seconds, 6),
        "source_reads": stats.source_reads,
        "source_bytes": stats.source_bytes,
        "unversioned": stats.unversioned,
        "resident_pages": stats.resident_pages,
        "used_bytes": dict(stats.used_bytes or {}),
        "logical_bytes": stats.logical_bytes,
        "unique_bytes": stats.unique_bytes,
    }
