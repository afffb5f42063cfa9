"""Sources by kind: one file each, found by the protocol of the fsspec file system."""

from __future__ import annotations

from typing import Any

from cleancache.source.base import NONE, STRONG, WEAK, Fetched, Garbled, Source, Version

__all__ = ["NONE", "STRONG", "WEAK", "Fetched", "Garbled", "Source", "Version", "source_for"]


def source_for(fs: Any, *, lease: str = "auto") -> Source:
    """The source for an fsspec file system in sync mode; a kind in no row of `docs/freshness.md` counts as the last
    one.

    *lease* `auto`, `require` or `off` says how local files are guarded against a write that is under way.
    Raises: ValueError for another *lease*.
    """
    if lease not in ("auto", "require", "off"):
        raise ValueError(f"lease is auto, require or off; got {lease!r}")
    protocols = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
    if protocols & {"file", "local"}:
        from cleancache.source.local import LocalSource

        return LocalSource(fs, lease=lease)
    if protocols & {"http", "https"}:
        from cleancache.source.http import HttpSource

        return HttpSource(fs)
    if protocols & {"s3", "s3a"}:
        from cleancache.source.s3 import S3Source

        return S3Source(fs)
    if protocols & {"gs", "gcs"}:
        from cleancache.source.gcs import GcsSource

        return GcsSource(fs)
    if protocols & {"abfs", "az", "abfss"}:
        from cleancache.source.abfs import AbfsSource

        return AbfsSource(fs)
    from cleancache.source.plain import PlainSource

    return PlainSource(fs)
