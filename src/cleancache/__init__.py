"""One bounded pool of spare RAM between slow storage and everything that reads it again.

`cleancache.open(url)` opens a file through the cache, `cleancache.connect(stack)` gives a pool to put pages into.
Everything else is loaded at first use, so that `import cleancache` stays cheap.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from cleancache.errors import Changed, Error, SpecError

if TYPE_CHECKING:
    from cleancache.backend import Absent as Absent
    from cleancache.backend import Backend as Backend
    from cleancache.backend import Stats as Stats
    from cleancache.handle import Handle as Handle
    from cleancache.handle import Scope as Scope
    from cleancache.pool import Pool as Pool
    from cleancache.registry import Registry as Registry
    from cleancache.slot import Factory
    from cleancache.slot import Slot as Slot

__version__ = "0.1.0"

_LAZY = {
    "Absent": "backend",
    "Backend": "backend",
    "Handle": "handle",
    "Pool": "pool",
    "Registry": "registry",
    "Scope": "handle",
    "Slot": "slot",
    "Stats": "backend",
}

__all__ = ["Changed", "Error", "SpecError", "connect", "open", "register", "unregister", *_LAZY]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"cleancache.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'cleancache' has no attribute {name!r}")


def connect(stack: str | None = None, *, pool: str | None = None, limit: str | int | None = None) -> Pool:
    """A pool in the back end that *stack* names: private, or the one shared under the UUID *pool*.

    Without arguments environment and configuration decide (`docs/configuration.md`). The same stack is the same back
    end, with one budget; *limit* is that of a zcache that names none.

    Raises: SpecError, for whatever is wrong with text, options or UUID; a kind that nobody registered is not: its pool
    waits.

    >>> with connect("zcache:64M") as pool:
    ...     pool.get(Handle(pool.id, bytes(24), 0)) is None
    True
    """
    from cleancache import config, handle, registry
    from cleancache.pool import Pool
    from cleancache.spec import parse_stack, stack_text, with_limit

    settings = config.resolve(stack=stack, pool=pool, limit=limit)
    slot = registry.default.connect(stack_text(with_limit(parse_stack(settings.stack), settings.limit)))
    if settings.pool is None:
        return Pool(slot)
    return Pool(slot, handle.shared_pool(settings.pool), shared=True)


def register(kind: str, factory: Factory) -> None:
    """Make a kind of tier known; pools that wait for it start to cache. Raises: SpecError, if it is known already."""
    from cleancache import registry

    registry.default.register(kind, factory)


def unregister(kind: str) -> None:
    """Drain and close the back ends of *kind*; their pools go on without a cache until it is registered again."""
    from cleancache import registry

    registry.default.unregister(kind)


def open(url: str | os.PathLike[str], mode: str = "rb", **options: Any) -> Any:
    """The file at *url*, or a local path, opened through the cache: `fsspec.open("cleancache::" + url)`, opened.

    *options* are those of `cleancache::` and of the file system behind it (`docs/configuration.md`).
    """
    import fsspec

    url = os.fspath(url)
    url = url if url.startswith("cleancache::") else f"cleancache::{url}"
    return fsspec.open(url, mode, **options).open()
