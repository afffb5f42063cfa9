"""Azure blobs, over adlfs: the version is `version_id`, else the ETag.

adlfs's `cat_file` ties its ranges to nothing, so reads go to the blob client with the condition. Tested here is what
becomes of the answers; no server of this kind is among the tests.
"""

from __future__ import annotations

from typing import Any

from cleancache.errors import Changed
from cleancache.source.base import NONE, STRONG, WEAK, Fetched, Garbled, Version, fingerprint, token


class AbfsSource:
    """Blobs, over an instance of `adlfs.AzureBlobFileSystem` in sync mode.  Raises: what adlfs raises.  Threads:
    any."""

    is_near = False

    def __init__(self, fs: Any) -> None:
        self._fs = fs
        self.identity = fingerprint("abfs", [*fs.storage_options.items(), ("args", fs.storage_args)])

    def version(self, name: str) -> Version:
        """One request for the blob's properties."""
        info = self._fs.info(name, refresh=True)
        if info.get("type") == "directory":
            raise IsADirectoryError(name)
        return version_of(info)

    def read(self, name: str, version: Version, offset: int, size: int | None) -> Fetched:
        """A conditional download of one range."""
        from fsspec.asyn import sync

        data = sync(self._fs.loop, self._download, name, version, offset, size)
        if version.size is not None and size is not None and len(data) != max(0, min(size, version.size - offset)):
            raise Garbled(f"{name}: {len(data)} bytes came for {size} at {offset}")
        return Fetched(data, offset, version, version.strength != NONE)

    def first(self, name: str, offset: int, size: int | None) -> Fetched | None:
        """None: ask first."""
        return None

    async def _download(self, name: str, version: Version, offset: int, size: int | None) -> bytes:
        from importlib import import_module

        unchanged = import_module("azure.core").MatchConditions.IfNotModified
        modified_error: type[Exception] = import_module("azure.core.exceptions").ResourceModifiedError

        container, path, _ = self._fs.split_path(name)
        condition: dict[str, Any] = {}
        if version.details.get("version_id"):
            condition = {"version_id": version.details["version_id"]}
        elif version.strength == STRONG:
            condition = {"etag": version.details["etag"], "match_condition": unchanged}
        async with self._fs.service_client.get_blob_client(container=container, blob=path) as client:
            try:
                stream = await client.download_blob(offset=offset, length=size, **condition)
                return bytes(await stream.readall())
            except modified_error:
                raise Changed(name) from None


def version_of(info: dict[str, Any]) -> Version:
    """The version that adlfs's facts about a blob make.

    >>> version_of({"size": 3, "etag": "0x8D"}).strength, version_of({"size": 3}).strength
    ('strong', 'none')
    """
    size, etag = info.get("size"), info.get("etag")
    if info.get("version_id"):
        return Version(token("id", info["version_id"], size), size, STRONG, "", info)
    if not etag:
        return Version(b"", size, NONE, "the store gives neither version_id nor etag", info)
    if etag.startswith("W/"):
        return Version(token("etag", etag, size), size, WEAK, "a weak ETag may stay the same while bytes change", info)
    return Version(token("etag", etag, size), size, STRONG, "", info)
