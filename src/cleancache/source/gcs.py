"""Google Cloud Storage, over gcsfs: the version is the generation, which the store never uses twice.

gcsfs answers `info` from the listing of the parent and knows no `refresh`, so versions are asked through a second
instance that keeps no listings (S26). Reads name the generation. Tested here is what becomes of the answers; no
server of this kind is among the tests.
"""

from __future__ import annotations

from typing import Any

from cleancache.source.base import NONE, STRONG, Fetched, Garbled, Version, fingerprint, token


class GcsSource:
    """Objects, over an instance of `gcsfs.GCSFileSystem` in sync mode.  Raises: what gcsfs raises.  Threads: any."""

    is_near = False

    def __init__(self, fs: Any) -> None:
        self._fs = fs
        self._fresh = type(fs)(*fs.storage_args, **{**fs.storage_options, "use_listings_cache": False})
        self.identity = fingerprint("gs", [*fs.storage_options.items(), ("args", fs.storage_args)])

    def version(self, name: str) -> Version:
        """One request for the object's metadata."""
        info = self._fresh.info(name)
        if info.get("type") == "directory":
            raise IsADirectoryError(name)
        return version_of(info)

    def read(self, name: str, version: Version, offset: int, size: int | None) -> Fetched:
        """The bytes of this generation; FileNotFoundError when it is gone."""
        stop = None if size is None else offset + size
        pin = {"generation": version.details["generation"]} if version.token else {}
        data = bytes(self._fs.cat_file(name, start=offset or None, end=stop, **pin))
        if version.size is not None and size is not None and len(data) != max(0, min(size, version.size - offset)):
            raise Garbled(f"{name}: {len(data)} bytes came for {size} at {offset}")
        return Fetched(data, offset, version, bool(version.token))

    def first(self, name: str, offset: int, size: int | None) -> Fetched | None:
        """None: gcsfs hides the reply's headers."""
        return None


def version_of(info: dict[str, Any]) -> Version:
    """The version that gcsfs's facts about an object make.

    >>> version_of({"size": 3, "generation": "17"}).strength
    'strong'
    """
    size, generation = info.get("size"), info.get("generation")
    if not generation:
        return Version(b"", size, NONE, "the store gives no generation", info)
    return Version(token("generation", generation, size), size, STRONG, "", info)
