"""What is stored in the measurements: eleven kinds of real contents in equal parts, nearly half of them incompressible.

Zeros measure nothing, and so does text alone. Files of this machine are used where they are of the kind (source,
JSON, CSV, shared libraries, images); the rest is made from facts about those files (Arrow, Parquet) or from fixed
seeds in the shape that such data has (weights, sensors, tokens, images where the machine has none). Given the same
machine, the same bytes come out.

Each page that is cut gets a number in its first eight bytes, so that no two are equal and a Store cannot share them.
"""

from __future__ import annotations

import io
import os
import random
import struct
import sys
import sysconfig
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

import numpy as np

PART_BYTES = 3 << 20  # of each kind; pages repeat with other numbers beyond that
SEED = 2011
TREE_FILES = 40_000  # as many files as are looked at


def _places() -> list[Path]:
    paths = sysconfig.get_paths()
    return [Path(paths["stdlib"]), Path(paths["purelib"]), Path("/usr/share"), Path("/usr/lib")]


@cache
def _tree() -> tuple[tuple[str, int, float, int], ...]:
    """(path, size, mtime, mode) of files of this machine, in a fixed order."""
    rows = []
    for place in _places():
        for folder, folders, names in os.walk(place):
            folders.sort()
            for name in sorted(names):
                path = os.path.join(folder, name)
                try:
                    status = os.lstat(path)
                except OSError:  # vanished meanwhile
                    continue
                rows.append((path, status.st_size, status.st_mtime, status.st_mode))
            if len(rows) > TREE_FILES:
                return tuple(rows)
    return tuple(rows)


def _files(*suffixes: str, least: int = 1) -> Iterator[bytes]:
    for path, size, _, _ in _tree():
        name = os.path.basename(path)
        if size >= least and any(name.endswith(s) or (s == ".so" and ".so." in name) for s in suffixes):
            try:
                yield Path(path).read_bytes()
            except OSError:
                continue


def _fill(parts: Iterable[bytes], more: Callable[[], Iterable[bytes]] | None = None) -> bytes:
    out = bytearray()
    for source in (parts, more() if more else ()):
        for part in source:
            out += part
            if len(out) >= PART_BYTES:
                return bytes(out[:PART_BYTES])
    if not out:
        raise RuntimeError("this machine has no contents of that kind")
    return bytes((out * (PART_BYTES // len(out) + 1))[:PART_BYTES])


def _listing_json() -> Iterator[bytes]:
    import json

    for path, size, mtime, mode in _tree():
        yield json.dumps({"path": path, "size": size, "mtime": mtime, "mode": oct(mode)}).encode() + b"\n"


def _listing_csv() -> Iterator[bytes]:
    for path, size, mtime, mode in _tree():
        yield f"{os.path.basename(path)},{size},{mtime:.3f},{mode:o},{zlib.crc32(path.encode())}\n".encode()


def _images() -> Iterator[bytes]:
    """Real images; where there are too few, rows of a noisy gradient, deflated as PNG does."""
    yield from _files(".png", ".jpg", ".jpeg", least=8 << 10)


def _made_images() -> Iterator[bytes]:
    chance = np.random.default_rng(SEED)
    while True:
        slope = np.cumsum(chance.normal(0, 2.0, (256, 768)), axis=1)
        yield zlib.compress(np.diff(slope.astype(np.uint8), axis=1).tobytes(), 6)


def _columns() -> dict[str, list[object]]:
    rows = [row for row in _tree() if row[1]]
    random.Random(SEED).shuffle(rows)
    return {
        "name": [os.path.basename(row[0]) for row in rows],
        "size": [row[1] for row in rows],
        "mtime": [row[2] for row in rows],
        "mode": [row[3] for row in rows],
        "ratio": [row[1] / (row[2] + 1) for row in rows],
        "suffix": [os.path.splitext(row[0])[1] for row in rows],
    }


def _arrow() -> Iterator[bytes]:
    import pyarrow as pa

    table, sink = pa.table(_columns()), io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=4096)
    yield sink.getvalue()


def _parquet(codec: str) -> Iterator[bytes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for _ in range(8):
        sink = io.BytesIO()
        pq.write_table(pa.table(_columns()), sink, compression=codec, row_group_size=16384)
        yield sink.getvalue()


def _weights() -> Iterator[bytes]:
    yield np.random.default_rng(SEED).normal(0, 0.02, PART_BYTES // 4).astype(np.float32).tobytes()


def _sensors() -> Iterator[bytes]:
    chance, count = np.random.default_rng(SEED + 1), PART_BYTES // 4
    drift = np.cumsum(chance.normal(0, 0.01, count))
    yield (20 + drift + chance.normal(0, 0.003, count)).astype(np.float32).tobytes()


def _tokens() -> Iterator[bytes]:
    """Words of the machine's source by rank, as a tokenizer of 50 000 entries would number them."""
    ranks: dict[bytes, int] = {}
    words: list[int] = []
    for text in _files(".py", least=2000):
        words += [ranks.setdefault(word, len(ranks)) % 50_000 for word in text.split()]
        if len(words) * 2 >= PART_BYTES:
            break
    yield np.array(words, dtype=np.uint16).tobytes()


KINDS: dict[str, Callable[[], bytes]] = {
    "source": lambda: _fill(_files(".py", least=500)),
    "JSON": lambda: _fill(_files(".json", least=1000), _listing_json),
    "CSV": lambda: _fill(_files(".csv", least=1000), _listing_csv),
    "shared libraries": lambda: _fill(_files(".so", least=50_000)),
    "Arrow": lambda: _fill(_arrow()),
    "Parquet snappy": lambda: _fill(_parquet("snappy")),
    "Parquet zstd": lambda: _fill(_parquet("zstd")),
    "images": lambda: _fill(_images(), _made_images),
    "float32 weights": lambda: _fill(_weights()),
    "float32 sensors": lambda: _fill(_sensors()),
    "uint16 tokens": lambda: _fill(_tokens()),
}
COMPRESSIBLE = ("source", "JSON", "CSV", "shared libraries", "Arrow")


@cache
def part(kind: str) -> bytes:
    """`PART_BYTES` of one kind."""
    return KINDS[kind]()


class Pages:
    """Numbered pages of a mix; page *n* has the same bytes whenever it is asked for, and no two are equal."""

    def __init__(self, page_bytes: int, kinds: Iterable[str] = KINDS) -> None:
        self.page_bytes = page_bytes
        self._parts = [memoryview(part(kind)) for kind in kinds]
        self._in_part = PART_BYTES // page_bytes

    def __call__(self, number: int) -> bytes:
        """Page *number*: the kinds take turns, the first eight bytes are the number."""
        turn, kind = divmod(number, len(self._parts))
        at = turn % self._in_part * self.page_bytes
        return struct.pack("<Q", number) + bytes(self._parts[kind][at + 8 : at + self.page_bytes])

    def kept_fraction(self, compress: Callable[[bytes], bytes], sample: int = 220) -> float:
        """What is left of the mix, where a page that does not shrink below 7/8 stays raw."""
        kept = 0
        for number in range(sample):
            size = len(compress(self(number)))
            kept += size if size < self.page_bytes * 7 // 8 else self.page_bytes
        return kept / (sample * self.page_bytes)


def main() -> int:
    """Print each kind with the fraction that lz4 keeps."""
    from lz4.block import compress

    for kind in KINDS:
        print(f"{kind:20} {Pages(65536, [kind]).kept_fraction(compress, 40):.2f}")
    print(f"{'mix':20} {Pages(65536).kept_fraction(compress):.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
