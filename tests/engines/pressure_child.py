"""What runs inside a test's control group: holds pages in a watched Store, takes memory, thrashes; one order a line."""

from __future__ import annotations

import json
import mmap
import os
import sys
import time

from cleancache.handle import Handle
from cleancache.pressure import MIB, Watch
from cleancache.store import Store

PAGE = 64 << 10


def main() -> None:
    """Obey until the end of the input."""
    watch, store = Watch(), Store(MIB)
    ballast: list[mmap.mmap] = []
    for line in sys.stdin:
        order, *words = line.split()
        answer: dict[str, int] = {}
        if order == "hold":
            store.close()
            store = Store(int(words[0]))
            watch.add(store)
            for page in range(int(words[0]) // PAGE):
                store.put(Handle(bytes(16), bytes(24), page), os.urandom(PAGE))
        elif order == "take" and int(words[0]):
            block = mmap.mmap(-1, int(words[0]), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            for at in range(0, len(block), 4096):
                block[at] = 1
            ballast.append(block)
        elif order == "free":
            while ballast:
                ballast.pop().close()
        elif order == "thrash":
            answer["bytes"] = thrash(int(words[0]), float(words[1]), words[2])
        stats = store.stats()
        answer |= {"limit": stats.limit_bytes or 0, "used": sum((stats.used_bytes or {}).values())}
        print(json.dumps(answer), flush=True)
    watch.stop()
    store.close()


def thrash(size: int, seconds: float, path: str) -> int:
    """Make a file of *size* inside of the group and read it round and round; the bytes read."""
    total = 0
    with open(path, "wb") as file:
        for _ in range(size // MIB):
            file.write(bytes(MIB))
        file.flush()
        os.fsync(file.fileno())
    with open(path, "rb") as made, mmap.mmap(made.fileno(), 0, prot=mmap.PROT_READ) as view:
        end = time.monotonic() + seconds
        while time.monotonic() < end or total < size:
            for at in range(0, size, 4096):
                total += 4096 + view[at]
    return total


if __name__ == "__main__":
    main()
