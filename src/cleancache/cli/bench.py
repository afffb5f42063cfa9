"""`bench URL`: what the cache is worth on the user's own source.

Three rows: without the cache (the file system alone), cold (empty cache), warm (the same again). Each reads the same
bytes in order, then the same random pieces; every byte is compared with what the file system gave without the cache,
so a figure never stands for wrong bytes. The first row's bytes are kept in memory: that is what `--size` bounds.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import click

from cleancache.cli.access import Access, Item
from cleancache.cli.options import Flags, common, reading
from cleancache.cli.say import Say, hide
from cleancache.handle import Scope
from cleancache.spec import parse_size, size_text

RANDOM_BYTES = 64 << 10
READ_BYTES = 1 << 20
Read = Callable[[Item, int, int], bytes]  # item, offset, size


@dataclass(frozen=True, slots=True)
class Row:
    """One way of reading; None where nobody knows."""

    way: str
    seconds: float
    mb_s: float
    requests: int | None
    random_requests: int | None
    p50_ms: float
    p99_ms: float


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
        say.note(f"reading {size_text(total)} in {len(parts)} objects, and {reads} times 64 KiB at random, three times")
        pieces = _random_pieces(parts, reads, seed)
        reader = parts[0][0].place.reader
        opened = {item.name: reader.open(item.name) for item, _ in parts}

        def plainly(item: Item, offset: int, size: int) -> bytes:
            data = item.place.fs.cat_file(item.name, start=offset, end=offset + size)
            assert isinstance(data, bytes)
            return data

        def cached(item: Item, offset: int, size: int) -> bytes:
            return reader.read(opened[item.name], offset, size)

        def asked() -> int | None:
            return reader.stats().source_reads

        (pool,) = access.pools.values()
        rows: list[Row] = []
        truth: dict[str, bytes] = {}
        wrong = 0
        for way, read in (("without", plainly), ("cold", cached), ("warm", cached)):
            if way == "cold":
                pool.flush(Scope(pool.id))
            before = asked()
            began = time.perf_counter()
            got = {item.name: _in_order(read, item, length) for item, length in parts}
            seconds = time.perf_counter() - began
            between = asked()
            truth = truth or got
            wrong += sum(got[name] != data for name, data in truth.items())
            if way == "cold":
                pool.flush(Scope(pool.id))
            times, differing = _at_random(read, pieces, truth)
            wrong += differing
            calls = sum(-(-length // READ_BYTES) for _, length in parts)
            rows.append(
                Row(
                    way,
                    round(seconds, 6),
                    round(total / 1e6 / max(seconds, 1e-9), 3),
                    calls if way == "without" else _less(between, before),
                    len(pieces) if way == "without" else _less(asked(), between),
                    round(_share(times, 0.50) * 1e3, 3),
                    round(_share(times, 0.99) * 1e3, 3),
                )
            )
        if wrong:
            raise click.ClickException(
                f"{wrong} reads gave other bytes than the source did: it changed meanwhile, or report this"
            )
        stats = access.stats()
        if as_json:
            say.json({"url": hide(url), "bytes": total, "objects": len(parts), "rows": [asdict(row) for row in rows]})
        else:
            _show(say, rows)
        if not opened[parts[0][0].name].is_cached:
            say.note(f"not cached: {opened[parts[0][0].name].why}; cleancache check {hide(url)} says what to do")
        elif sum((stats.left or {}).get(why, 0) for why in ("evicted", "spilled")):
            say.note("some of it had to leave the cache: a larger --limit makes warm reads faster")
        say.note("every byte was compared with the source's")


def _parts(access: Access, url: str, room: int) -> list[tuple[Item, int]]:
    """Objects and how much of each is read, until *room* is full."""
    parts = []
    for item in access.items(url):
        length = min(item.size or 0, room)
        if length:
            parts.append((item, length))
            room -= length
    return parts


def _random_pieces(parts: Sequence[tuple[Item, int]], reads: int, seed: int) -> list[tuple[Item, int, int]]:
    chance = random.Random(seed)
    pieces = []
    for item, length in chance.choices(parts, weights=[length for _, length in parts], k=reads):
        size = min(RANDOM_BYTES, length)
        pieces.append((item, chance.randint(0, length - size), size))
    return pieces


def _in_order(read: Read, item: Item, length: int) -> bytes:
    return b"".join(read(item, at, min(READ_BYTES, length - at)) for at in range(0, length, READ_BYTES))


def _at_random(read: Read, pieces: Sequence[tuple[Item, int, int]], truth: dict[str, bytes]) -> tuple[list[float], int]:
    times, differing = [], 0
    for item, offset, size in pieces:
        began = time.perf_counter()
        data = read(item, offset, size)
        times.append(time.perf_counter() - began)
        differing += data != truth[item.name][offset : offset + size]
    return sorted(times), differing


def _share(times: Sequence[float], share: float) -> float:
    return times[min(len(times) - 1, int(share * len(times)))]


def _less(after: int | None, before: int | None) -> int | None:
    return None if after is None or before is None else after - before


def _show(say: Say, rows: Sequence[Row]) -> None:
    head = ("", "seconds", "MB/s", "requests", "random: requests", "p50 ms", "p99 ms")
    lines = [
        (
            row.way,
            f"{row.seconds:.3f}",
            f"{row.mb_s:.1f}",
            "-" if row.requests is None else str(row.requests),
            "-" if row.random_requests is None else str(row.random_requests),
            f"{row.p50_ms:.2f}",
            f"{row.p99_ms:.2f}",
        )
        for row in rows
    ]
    say.table([head, *lines], right=frozenset(range(1, len(head))))
