"""`bench URL`: what the cache is worth on the user's own source.

Three rows: without the cache (the file system alone), cold (empty cache), warm (the same again). Each reads the same
bytes in order, then the same random pieces; every byte is compared with what the file system gave without the cache,
so a figure never stands for wrong bytes. The first row's bytes are kept in memory: that is what `--size` bounds.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import click

from cleancache.cli.access import Access, Item
from cleancache.cli.options import Flags, common, reading
from cleancache.cli.say import Say, hide
from cleancache.handle import Scope
from cleancache.spec import parse_size, size_text

RANDOM_BYTES = 64 << 10
READ_BYTES = 1 << 20
Piece = tuple[Item, int, int]  # item, offset, size
Read = Callable[[Item, int, int], bytes]


@dataclass(frozen=True, slots=True)
class Row:
    """One way of reading; `requests` to the source."""

    way: str
    seconds: float
    mb_s: float
    requests: int
    random_requests: int
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Pass:
    """What one pass over pieces took: seconds a piece, requests, and how many pieces were wrong."""

    times: Sequence[float]
    requests: int
    wrong: int


@click.command()
@click.argument("url")
@click.option(
    "--size", default="64M", show_default=True, help="Read this much of it at most; held in memory to compare."
)
@click.option("--reads", type=click.IntRange(1), default=100, show_default=True, help="Random reads of 64 KiB.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random reads.")
@click.option("--json", "as_json", is_flag=True, help="One document.")
@reading
@common
@click.pass_obj
def bench(say: Say, url: str, size: str, reads: int, seed: int, as_json: bool, flags: Flags) -> None:
    """Read URL without the cache, cold and warm; print seconds, MB/s, requests, and random reads."""
    with Access(flags) as access:
        parts = _parts(access, url, parse_size(size))
        total = sum(length for _, length in parts)
        if not total:
            raise click.ClickException(f"nothing to read at {hide(url)}: no object of a known size above 0 bytes")
        say.note(f"reading {size_text(total)} of {url} and {reads} times 64 KiB at random, three times")
        trial = Trial(access, parts)
        in_order = [
            (item, at, min(READ_BYTES, length - at)) for item, length in parts for at in range(0, length, READ_BYTES)
        ]
        at_random = _random_pieces(parts, reads, seed)
        passes = {
            "without": (trial.plainly(in_order), trial.plainly(at_random)),
            "cold": (trial.cold(at_random), trial.cold(in_order))[::-1],  # in order is last, so all of it is warm below
            "warm": (trial.cached(in_order), trial.cached(at_random)),
        }
        wrong = sum(each.wrong for both in passes.values() for each in both)
        if wrong:
            raise click.ClickException(
                f"{wrong} reads gave other bytes than before: the source changed, or report this"
            )
        rows = [_row(way, total, *both) for way, both in passes.items()]
        left, why = access.held().left or {}, trial.why_not_cached
    if as_json:
        say.json({"url": hide(url), "bytes": total, "objects": len(parts), "rows": [asdict(row) for row in rows]})
    else:
        _show(say, rows)
    say.note("every byte was compared")
    if why:
        say.note(f"not cached: {why}; 'cleancache check URL' says what to do")
    elif left.get("evicted") or left.get("spilled"):
        say.note("some of it had to leave the cache: a larger --limit makes warm reads faster")


class Trial:
    """Passes over pieces of some objects, each compared with the first that was made without the cache."""

    def __init__(self, access: Access, parts: Sequence[tuple[Item, int]]) -> None:
        self.why_not_cached = ""
        self._access, self._parts = access, parts
        self._reader = parts[0][0].place.reader
        self._truth = {item.name: bytearray() for item, _ in parts}

    def plainly(self, pieces: Sequence[Piece]) -> Pass:
        """The file system alone, one request a piece; the first such pass says what is true."""

        def read(item: Item, offset: int, size: int) -> bytes:
            data: bytes = item.place.fs.cat_file(item.name, start=offset, end=offset + size)
            if offset == len(self._truth[item.name]):
                self._truth[item.name] += data
            return data

        return replace(self._timed(read, pieces), requests=len(pieces))

    def cold(self, pieces: Sequence[Piece]) -> Pass:
        """Through a cache that has nothing of it."""
        pool = self._reader.pool
        pool.flush(Scope(pool.id))
        return self.cached(pieces)

    def cached(self, pieces: Sequence[Piece]) -> Pass:
        """Through the cache as it is."""
        opened = {item.name: self._reader.open(item.name) for item, _ in self._parts}
        found = self._timed(lambda item, offset, size: self._reader.read(opened[item.name], offset, size), pieces)
        self.why_not_cached = next((each.why for each in opened.values() if not each.is_cached), "")
        return found

    def _timed(self, read: Read, pieces: Sequence[Piece]) -> Pass:
        before, times, wrong = self._requests(), [], 0
        for item, offset, size in pieces:
            began = time.perf_counter()
            data = read(item, offset, size)
            times.append(time.perf_counter() - began)
            wrong += data != self._truth[item.name][offset : offset + size]
        return Pass(times, self._requests() - before, wrong)

    def _requests(self) -> int:
        return self._access.read().source_reads or 0


def _parts(access: Access, url: str, room: int) -> list[tuple[Item, int]]:
    """Objects and how much of each is read, until *room* is full."""
    parts = []
    for item in access.items(url):
        length = min(item.size or 0, room)
        if length:
            parts.append((item, length))
            room -= length
    return parts


def _random_pieces(parts: Sequence[tuple[Item, int]], reads: int, seed: int) -> list[Piece]:
    chance = random.Random(seed)
    pieces = []
    for item, length in chance.choices(parts, weights=[length for _, length in parts], k=reads):
        size = min(RANDOM_BYTES, length)
        pieces.append((item, chance.randint(0, length - size), size))
    return pieces


def _row(way: str, total: int, in_order: Pass, at_random: Pass) -> Row:
    seconds, times = sum(in_order.times), sorted(at_random.times)
    p50, p99 = (times[min(len(times) - 1, int(share * len(times)))] for share in (0.50, 0.99))
    return Row(
        way,
        round(seconds, 6),
        round(total / 1e6 / max(seconds, 1e-9), 3),
        in_order.requests,
        at_random.requests,
        round(p50 * 1e3, 3),
        round(p99 * 1e3, 3),
    )


def _show(say: Say, rows: Sequence[Row]) -> None:
    head = ("", "seconds", "MB/s", "requests", "random: requests", "p50 ms", "p99 ms")
    lines = [
        (
            row.way,
            f"{row.seconds:.3f}",
            f"{row.mb_s:.1f}",
            str(row.requests),
            str(row.random_requests),
            f"{row.p50_ms:.2f}",
            f"{row.p99_ms:.2f}",
        )
        for row in rows
    ]
    say.table([head, *lines], right=frozenset(range(1, len(head))))
