"""Byte ranges as fsspec's callers write them: slices, with None, negative ends, and ends beyond the end.

Many small ranges of one object (kerchunk, Parquet column chunks) become few: what is nearer than `max_gap` is read as
one and cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

Range = tuple[int, int]


def resolve(start: int | None, end: int | None, size: int) -> Range:
    """(start, stop) of the slice [*start*:*end*] of *size* bytes.

    >>> resolve(-4, None, 10), resolve(None, -4, 10), resolve(8, 99, 10), resolve(7, 3, 10)
    ((6, 10), (0, 6), (8, 10), (7, 7))
    """
    first, stop, _ = slice(start, end).indices(size)
    return first, max(first, stop)


def merge(ranges: Sequence[Range], max_gap: int) -> list[tuple[Range, list[int]]]:
    """Ranges that cover *ranges*, none nearer than *max_gap* to another, each with the numbers of those it covers.

    >>> merge([(0, 4), (100, 104), (6, 8)], max_gap=2)
    [((0, 8), [0, 2]), ((100, 104), [1])]
    """
    merged: list[tuple[Range, list[int]]] = []
    for number in sorted(range(len(ranges)), key=lambda number: ranges[number]):
        start, stop = ranges[number]
        if merged and start - merged[-1][0][1] <= max_gap:
            (first, last), numbers = merged[-1]
            merged[-1] = ((first, max(last, stop)), [*numbers, number])
        else:
            merged.append(((start, stop), [number]))
    return merged


def read_merged(
    ranges: Sequence[Range], max_gap: int | None, read: Callable[[Sequence[Range]], list[bytes]]
) -> list[bytes]:
    """The bytes of *ranges* in their order, through *read* in as few ranges as *max_gap* allows."""
    if max_gap is None or len(ranges) < 2:
        return read(ranges)
    groups = merge(ranges, max_gap)
    results = [b""] * len(ranges)
    for ((first, _), numbers), data in zip(groups, read([whole for whole, _ in groups]), strict=True):
        for number in numbers:
            start, stop = ranges[number]
            results[number] = data[start - first : stop - first]
    return results


def align(paths: Any, starts: Any, ends: Any) -> tuple[list[Any], list[Any]]:
    """*starts* and *ends* as lists as long as *paths*; a single value counts for all.

    Raises: TypeError, if *paths* is no list; ValueError, if the lengths differ.
    """
    if not isinstance(paths, list):
        raise TypeError(f"paths is a list; got {type(paths).__name__}")
    starts = list(starts) if isinstance(starts, Iterable) else [starts] * len(paths)
    ends = list(ends) if isinstance(ends, Iterable) else [ends] * len(paths)
    if len(starts) != len(paths) or len(ends) != len(paths):
        raise ValueError(
            f"{len(paths)} paths, {len(starts)} starts and {len(ends)} ends: one of each, or a single number"
        )
    return starts, ends
