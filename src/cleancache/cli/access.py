"""From words on the command line to something that can be read: URL → file system, objects, Reader.

One process, one pool for each stack text, one Reader for each source and its settings; all of them end with the
command.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

from cleancache.backend import Stats
from cleancache.cli.options import Flags
from cleancache.tally import added_up

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

    from cleancache.config import Settings
    from cleancache.pool import Pool
    from cleancache.reader import Reader

PREFIX = "cleancache::"
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "abfs": "azure", "abfss": "azure", "az": "azure"}
EXTRAS |= {"http": "http", "https": "http"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a URL leads: the file system of the source, the name there, and the Reader over it."""

    url: str
    fs: AbstractFileSystem
    name: str
    reader: Reader
    settings: Settings


@dataclass(frozen=True, slots=True)
class Item:
    """One object to read; `size` is None where the source does not say."""

    place: Place
    name: str
    size: int | None


class Access(AbstractContextManager["Access"]):
    """Pools and Readers of one run of the command.

    Threads: made and closed by one; what it hands out may be used by many.
    """

    def __init__(self, flags: Flags) -> None:
        self.flags = flags
        self.pools: dict[tuple[str, ...], Pool] = {}
        self._readers: dict[tuple[Any, ...], Reader] = {}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for reader in self._readers.values():
            reader.close()
        for pool in self.pools.values():
            pool.close()
        for pool in self.pools.values():
            pool.backend.close()  # the command is the whole process: no one else reads through this stack

    def source(self, url: str) -> tuple[AbstractFileSystem, str]:
        """The file system behind *url* and the name there; `cleancache::` in front of it changes nothing."""
        from fsspec.core import url_to_fs
        from fsspec.utils import get_protocol

        from cleancache import config

        bare = url.removeprefix(PREFIX)
        options = {**config.source_options(get_protocol(bare), bare), **dict(self.flags.storage)}
        try:
            fs, name = url_to_fs(bare, **options)
        except ImportError as missing:
            extra = EXTRAS.get(get_protocol(bare))
            remedy = f"pip install 'cleancache[{extra}]'" if extra else "install it"
            raise click.ClickException(f"{missing}: {remedy}") from missing
        except TypeError as mistake:  # an option that the file system does not know
            raise click.UsageError(f"{url}: {mistake}") from mistake
        return fs, name

    def place(self, url: str) -> Place:
        """Everything needed to read *url* through the cache.

        Raises: SpecError; click.UsageError; what the file system raises when it is made.
        """
        from cleancache import config
        from cleancache.reader import Reader
        from cleancache.source import source_for

        settings = config.resolve(url.removeprefix(PREFIX), **self.flags.settings())
        fs, name = self.source(url)
        given = (str(id(fs)), repr(settings))
        if given not in self._readers:
            self._readers[given] = Reader(
                source_for(fs, lease=settings.lease),
                self.pool(settings),
                page_size=settings.page_size,
                readahead=settings.readahead,
                max_stale=settings.max_stale,
                immutable=settings.immutable,
            )
        return Place(url, fs, name, self._readers[given], settings)

    def pool(self, settings: Settings) -> Pool:
        """The pool of these settings; equal ones share it."""
        import cleancache

        given = (str(settings.stack), str(settings.pool), str(settings.limit))
        if given not in self.pools:
            self.pools[given] = cleancache.connect(settings.stack, pool=settings.pool, limit=settings.limit)
        return self.pools[given]

    def items(self, url: str, *, below: bool = True) -> Iterator[Item]:
        """The objects that *url* means: one, those of a pattern, or (*below*) all below a directory.

        HTTP lists nothing reliable and `?` begins a query there, so only `*` and a trailing slash mean more than one
        object. Of one object the Reader says the size, for an error of the source shall be the source's own.
        """
        place = self.place(url)
        fs, name = place.fs, place.name
        is_http = not {"http", "https"}.isdisjoint((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)
        if any(mark in name for mark in ("*" if is_http else "*?[")):
            found = fs.glob(name, detail=True)
        elif below and (name.endswith("/") if is_http else fs.isdir(name)):
            found = fs.find(name, detail=True)
        else:
            yield Item(place, name, place.reader.open(name).size if below else None)
            return
        for each, details in sorted(found.items()):
            if details.get("type") != "directory":
                yield Item(place, each, details.get("size"))

    def held(self) -> Stats:
        """What the tiers of all pools counted and hold, each once; what no tier knows stays None."""
        return added_up(
            *(tier.stats() for tier in {id(pool.backend): pool.backend for pool in self.pools.values()}.values())
        )

    def read(self) -> Stats:
        """What all Readers counted: bytes given, and what the sources were asked."""
        return added_up(*(reader.stats() for reader in self._readers.values()))
