"""S3 and its like, over s3fs: the version is the VersionId, else ETag, size and LastModified together (S25).

It is asked by HEAD past s3fs's listing cache, which may hold an old ETag (S26). Each range then goes to exactly that
version: by `VersionId` where the bucket has versions, else with `If-Match` (S24). s3fs's own `cat_file` knows no
If-Match and cuts great reads into ranges that nothing holds together, so requests are made one level below it.
Absence is never remembered (S29).
"""

from __future__ import annotations

import os
import re
from typing import Any

from cleancache.errors import Changed
from cleancache.source.base import NONE, STRONG, WEAK, Fetched, Garbled, Version, fingerprint, token

# Who asks, where the options do not say: law P12 wants other credentials to be another identity
WHO = (
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_ROLE_ARN",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
)


class S3Source:
    """Objects, over an instance of `s3fs.S3FileSystem` in sync mode.  Raises: what s3fs raises.  Threads: any."""

    is_near = False

    def __init__(self, fs: Any) -> None:
        self._fs = fs
        environment = [(f"env {name}", os.environ[name]) for name in WHO if name in os.environ]
        self.identity = fingerprint("s3", [*fs.storage_options.items(), ("args", fs.storage_args), *environment])

    def version(self, name: str) -> Version:
        """One HEAD; FileNotFoundError for what is not there."""
        info = self._fs.info(name, refresh=True)
        if info.get("type") == "directory":
            raise IsADirectoryError(name)
        return version_of(info.get("VersionId"), info.get("ETag"), info.get("size"), info.get("LastModified"), info)

    def read(self, name: str, version: Version, offset: int, size: int | None) -> Fetched:
        """One GET of this version."""
        fetched: Fetched = self._run(name, version, offset, size)
        return fetched

    def first(self, name: str, offset: int, size: int | None) -> Fetched | None:
        """One GET of whatever is current; the reply says which version that is."""
        fetched: Fetched | None = self._run(name, None, offset, size)
        return fetched

    def _run(self, name: str, version: Version | None, offset: int, size: int | None) -> Any:
        from fsspec.asyn import sync

        return sync(self._fs.loop, self._get, name, version, offset, size)

    async def _get(self, name: str, version: Version | None, offset: int, size: int | None) -> Fetched | None:
        bucket, key, pinned = self._fs.split_path(self._fs._strip_protocol(name))
        if not key:
            return None
        options: dict[str, Any] = {}
        if pinned:
            options["VersionId"] = pinned
        if version is not None:
            options |= _condition(version)
        if offset or size is not None:
            options["Range"] = f"bytes={offset}-" if size is None else f"bytes={offset}-{offset + size - 1}"
        try:
            reply = await self._fs._call_s3("get_object", self._fs.kwargs, Bucket=bucket, Key=key, **options)
        except OSError as error:
            code = _code(error)
            if code in ("412", "PreconditionFailed"):
                raise Changed(name) from None
            if code in ("416", "InvalidRange"):
                if version is None:
                    return None  # empty, or beyond the end: ask, then decide
                raise Changed(name) from None
            raise
        total = _total(reply, offset)
        found = version_of(
            reply.get("VersionId"), reply.get("ETag"), total, reply.get("LastModified"), _details(reply, name, total)
        )
        if version is None:
            version = found
        elif version.token != found.token:
            reply["Body"].close()
            raise Changed(name)
        return Fetched(await _body(reply, name, version, offset, size), offset, version, found.strength != NONE)


def version_of(version_id: Any, etag: Any, size: Any, modified: Any, details: Any) -> Version:
    """The version that these facts about an object make.

    >>> version_of("null", '"a"', 3, 0, {}).strength, version_of(None, None, 3, 0, {}).strength
    ('strong', 'none')
    """
    if version_id and version_id != "null":
        return Version(token("id", version_id, size), size, STRONG, "", details)
    if not etag:
        return Version(b"", size, NONE, "the store gives neither VersionId nor ETag", details)
    # a listing writes the time with milliseconds, a header without: whole seconds, so that HEAD and GET agree
    stamp = int(modified.timestamp()) if hasattr(modified, "timestamp") else modified
    text = token("etag", etag, size, stamp)
    if etag.startswith("W/"):
        return Version(text, size, WEAK, "a weak ETag may stay the same while bytes change", details)
    return Version(text, size, STRONG, "", details)


def _condition(version: Version) -> dict[str, str]:
    version_id = version.details.get("VersionId")
    if version_id and version_id != "null":
        return {"VersionId": version_id}
    etag = version.details.get("ETag") or ""
    return {} if not etag or etag.startswith("W/") else {"IfMatch": etag}


def _details(reply: Any, name: str, total: int | None) -> dict[str, Any]:
    return {
        "name": name,
        "type": "file",
        "size": total,
        "ETag": reply.get("ETag", ""),
        "LastModified": reply.get("LastModified", ""),
        "VersionId": reply.get("VersionId"),
        "StorageClass": reply.get("StorageClass", "STANDARD"),
        "ContentType": reply.get("ContentType"),
    }


def _total(reply: Any, offset: int) -> int | None:
    """The size of the whole object, as the reply tells it."""
    if "ContentRange" in reply:
        match = re.fullmatch(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})", reply["ContentRange"])
        if match is None or int(match[1]) != offset:
            raise Garbled(f"bytes from {offset} were asked for, {reply['ContentRange']} came")
        return int(match[3])
    length = reply.get("ContentLength")
    return None if offset or length is None else int(length)


async def _body(reply: Any, name: str, version: Version, offset: int, size: int | None) -> bytes:
    import aiohttp

    try:
        data: bytes = await reply["Body"].read()
    except (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError) as error:
        raise Garbled(f"{name}: the body ended early") from error
    finally:
        reply["Body"].close()
    if version.size is not None:
        wanted = version.size - offset if size is None else min(size, version.size - offset)
        if len(data) != wanted and not (offset == 0 and len(data) == version.size):
            raise Garbled(f"{name}: {len(data)} bytes came for {wanted} at {offset}")
    return data


def _code(error: OSError) -> str:
    response = getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))
