"""What child processes do in the tests of the fsspec front end: importable, so that spawn and forkserver find it."""

from __future__ import annotations

import asyncio
from typing import Any


def read_all(fs: Any, path: str) -> tuple[bytes, list[str], bytes, bytes]:
    """Everything that a worker does with an instance it inherited or was sent."""
    with fs.open(path) as file:
        opened = file.read()
    return fs.cat_file(path), fs.glob(path), fs.cat([path])[path], opened


def read_file(file: Any) -> tuple[int, bytes]:
    """Go on with a file that was open in the parent."""
    return file.tell(), file.read()


async def _twins(fs: Any, path: str) -> tuple[bytes, Any]:
    return await fs._cat_file(path), (await fs._info(path))["size"]


def read_async(fs: Any, path: str) -> tuple[bytes, Any]:
    """The async twins in a loop of the child's own."""
    return asyncio.run(_twins(fs, path))


def used_bytes(fs: Any, path: str) -> int:
    """What the child's own store holds."""
    stats = fs.reader(path).pool.backend.stats()
    return sum((stats.used_bytes or {}).values())
