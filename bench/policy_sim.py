"""Replay of synthetic traces: the hit ratio of the real Store beside that of an exact LRU of as many pages.

    python -m bench.policy_sim [--requests N] [--pages N] [--json] [--write docs/policy.md]

The Store is the real one, with pages of 4 KiB that do not compress and segments in the proportion they have in use,
reclaiming inside of `put`; so its code is judged, not a model of it. The LRU beside it holds as many pages as the
Store held at its fullest, which favours the LRU: a Store between two reclaims holds less. Goals (law M4): never
worse than the exact LRU by more than 1 % of the requests, better on mixes with scans. `libcachesim` (plain LRU and
S3-FIFO by page) is shown beside them when it is installed. Seeds are fixed.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path

from cleancache.handle import Handle
from cleancache.store import Store

PAGE_BYTES = 4096  # the least page of a Reader
SEGMENTS = 64  # a limit of 256 MiB in segments of 4 MiB, the default, has as many
GOAL = 0.01
MARKS = "<!-- made by python -m bench.policy_sim -->", "<!-- end -->"


@dataclass(frozen=True, slots=True)
class Trace:
    """A sequence of page numbers and what is asked of the policy on it."""

    name: str
    pages: Callable[[random.Random, int, int], Iterator[int]]  # (chance, requests, pages that fit) -> page numbers
    is_scan: bool = False
    is_judged: bool = True  # shown only, where the cost is known and stated in docs/policy.md


def zipf(alpha: float, universe: float) -> Callable[[random.Random, int, int], Iterator[int]]:
    """Independent requests, the n-th page with weight n**-alpha, of *universe* times what fits."""

    def pages(chance: random.Random, requests: int, fit: int) -> Iterator[int]:
        names = list(range(int(fit * universe)))
        chance.shuffle(names)
        weights = list(accumulate(rank**-alpha for rank in range(1, len(names) + 1)))
        yield from chance.choices(names, cum_weights=weights, k=requests)

    return pages


def scans(share: float, alpha: float = 0.9) -> Callable[[random.Random, int, int], Iterator[int]]:
    """A hot set of the size that fits, and *share* of the requests for cold pages, once each, in runs of a 16th."""

    def pages(chance: random.Random, requests: int, fit: int) -> Iterator[int]:
        hot = zipf(alpha, 1.0)(chance, requests, fit)
        run, cold, done = max(fit // 16, 1), 1 << 32, 0
        between = max(int(run * (1 - share) / share), 1)
        while done < requests:
            for _ in range(between):
                yield next(hot)
            yield from range(cold, cold + run)
            cold, done = cold + run, done + between + run

    return pages


def one_scan(chance: random.Random, requests: int, fit: int) -> Iterator[int]:
    """A hot set, one pass over four times what fits in its middle, and the hot set again."""
    hot = zipf(0.9, 0.8)(chance, requests, fit)
    rest = max(requests - 4 * fit, 2)
    for _ in range(rest // 2):
        yield next(hot)
    yield from range(1 << 32, (1 << 32) + 4 * fit)
    for _ in range(rest - rest // 2):
        yield next(hot)


def loop(size: float) -> Callable[[random.Random, int, int], Iterator[int]]:
    """Epochs over *size* times what fits, in order."""

    def pages(chance: random.Random, requests: int, fit: int) -> Iterator[int]:
        for request in range(requests):
            yield request % int(fit * size)

    return pages


def shuffled_epochs(size: float) -> Callable[[random.Random, int, int], Iterator[int]]:
    """Epochs over *size* times what fits, each in an order of its own: a training loop."""

    def pages(chance: random.Random, requests: int, fit: int) -> Iterator[int]:
        names = list(range(int(fit * size)))
        for _ in range(-(-requests // len(names))):
            chance.shuffle(names)
            yield from names

    return pages


def shifting(chance: random.Random, requests: int, fit: int) -> Iterator[int]:
    """A Zipf set of twice what fits that moves on by a quarter of what fits, twenty times."""
    names = list(range(2 * fit))
    weights = list(accumulate(rank**-0.9 for rank in range(1, len(names) + 1)))
    fresh = len(names)
    for _ in range(20):
        yield from chance.choices(names, cum_weights=weights, k=requests // 20)
        for _ in range(fit // 4):
            names[chance.randrange(len(names))] = fresh
            fresh += 1


def changes(sets: int) -> Callable[[random.Random, int, int], Iterator[int]]:
    """A Zipf set of twice what fits, *sets* times another one, all at once: who asks for proof pays for each change."""

    def pages(chance: random.Random, requests: int, fit: int) -> Iterator[int]:
        for turn in range(sets):
            for page in zipf(0.9, 2.0)(chance, requests // sets, fit):
                yield page + turn * 2 * fit

    return pages


def mixed_loop(chance: random.Random, requests: int, fit: int) -> Iterator[int]:
    """Half Zipf over what fits, half a loop over twice what fits."""
    hot, cold = zipf(1.0, 1.0)(chance, requests, fit), loop(2.0)(chance, requests, fit)
    for _ in range(requests // 2):
        yield next(hot)
        yield next(cold) + (1 << 32)


TRACES = (
    Trace("Zipf 0.7", zipf(0.7, 10)),
    Trace("Zipf 0.9", zipf(0.9, 10)),
    Trace("Zipf 1.1", zipf(1.1, 10)),
    Trace("Zipf 0.9, most of it fits", zipf(0.9, 1.5)),
    Trace("hot set + 20 % cold scan", scans(0.2), is_scan=True),
    Trace("hot set + 50 % cold scan", scans(0.5), is_scan=True),
    Trace("hot set, one scan of 4x the cache", one_scan, is_scan=True),
    Trace("loop over 1.2x the cache", loop(1.2)),
    Trace("loop over 2x the cache", loop(2.0)),
    Trace("shuffled epochs over 2x the cache", shuffled_epochs(2.0)),
    Trace("Zipf 1.0 + loop over 2x the cache", mixed_loop),
    Trace("hot set that shifts", shifting),
    Trace("another hot set at half-time", changes(2)),
    Trace("five hot sets, each gone at once", changes(5), is_judged=False),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One trace: hit ratios of the Store, of the exact LRU of as many pages, and of others by name."""

    trace: str
    requests: int
    pages: int
    store: float
    lru: float
    others: dict[str, float]
    is_scan: bool
    is_judged: bool = True

    @property
    def is_met(self) -> bool:
        """Say whether law M4 holds here: within 1 % of LRU, and better than it where there are scans."""
        return self.store >= self.lru - GOAL and (not self.is_scan or self.store > self.lru)


def replay_store(trace: list[int], limit_bytes: int) -> tuple[int, int]:
    """(hits, most pages held at once) of the real Store."""
    store = Store(limit_bytes, codec="none", background=False, segment_bytes=limit_bytes // SEGMENTS)
    body = random.Random(5).randbytes(PAGE_BYTES - 8)
    pool, obj, hits, most = bytes(16), bytes(24), 0, 0
    try:
        for count, page in enumerate(trace):
            handle = Handle(pool, obj, page)
            if store.get(handle) is not None:
                hits += 1
            else:
                store.put(handle, page.to_bytes(8, "little") + body)
            if not count % 256:
                most = max(most, store.stats().resident_pages or 0)
    finally:
        store.close()
    return hits, most


def replay_lru(trace: list[int], pages: int) -> int:
    """Hits of an exact LRU of *pages* pages."""
    held: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for page in trace:
        if page in held:
            held.move_to_end(page)
            hits += 1
        else:
            held[page] = None
            if len(held) > pages:
                held.popitem(last=False)
    return hits


def replay_others(trace: list[int], pages: int) -> dict[str, float]:
    """Hit ratios of libcachesim's page-wise policies, if it is installed."""
    try:
        import libcachesim  # type: ignore[import-not-found,unused-ignore]  # a peer, installed or not
    except ImportError:
        return {}
    ratios = {}
    for name, kind in (("S3-FIFO by page", libcachesim.S3FIFO), ("ARC", libcachesim.ARC)):
        cache = kind(cache_size=pages)
        request = libcachesim.Request()
        request.obj_size = 1
        hits = 0
        for page in trace:
            request.obj_id = page
            hits += cache.get(request)
        ratios[name] = hits / len(trace)
    return ratios


def run(requests: int, fit: int, *, traces: tuple[Trace, ...] = TRACES, with_others: bool = True) -> list[Outcome]:
    """Replay all *traces* through a Store of about *fit* pages."""
    outcomes = []
    for trace in traces:
        pages = list(trace.pages(random.Random(2011), requests, fit))
        hits, most = replay_store(pages, fit * PAGE_BYTES)
        lru = replay_lru(pages, most)
        others = replay_others(pages, most) if with_others else {}
        outcomes.append(
            Outcome(
                trace.name,
                len(pages),
                most,
                hits / len(pages),
                lru / len(pages),
                others,
                trace.is_scan,
                trace.is_judged,
            )
        )
    return outcomes


def table(outcomes: list[Outcome]) -> str:
    """The outcomes as a table of Markdown."""
    others = list(outcomes[0].others)
    head = ["trace", "requests", "pages held", "Store", "exact LRU", "difference", *others, "M4"]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 2) + "---|"]
    for got in outcomes:
        cells = [got.trace, f"{got.requests}", f"{got.pages}", f"{got.store:.3f}", f"{got.lru:.3f}"]
        cells += [f"{got.store - got.lru:+.3f}", *(f"{got.others[name]:.3f}" for name in others)]
        verdict = "met" if got.is_met else "**missed**"
        lines.append("| " + " | ".join([*cells, verdict if got.is_judged else f"shown, {verdict}"]) + " |")
    return "\n".join(lines)


def write_between(path: Path, marks: tuple[str, str], text: str) -> None:
    """Replace what stands between the two *marks* of a document."""
    document = path.read_text(encoding="utf-8")
    head, begin, rest = document.partition(marks[0])
    _, end, tail = rest.partition(marks[1])
    if not begin or not end:
        raise SystemExit(f"{path} has no lines {marks[0]!r} and {marks[1]!r} to write between")
    path.write_text(f"{head}{begin}\n{text}\n{end}{tail}", encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """Run, print, and exit 1 when law M4 is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.policy_sim", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--pages", type=int, default=4096, help="pages that the limit is worth")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", type=Path, help="the document whose table is replaced")
    options = parser.parse_args(arguments)
    outcomes = run(options.requests, options.pages)
    if options.json:
        print(json.dumps([asdict(got) | {"is_met": got.is_met} for got in outcomes], indent=1))
    else:
        print(table(outcomes))
    if options.write:
        write_between(options.write, MARKS, table(outcomes))
    return 0 if all(got.is_met or not got.is_judged for got in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
