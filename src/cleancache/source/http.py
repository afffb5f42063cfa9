"""HTTP and HTTPS: the version is a strong ETag, and every range is asked with `If-Match` and checked when it comes.

Own requests on the session of fsspec's HTTP file system, because its `cat_file` hides the reply's headers and trusts
the server. A version is asked by HEAD with `Cache-Control: no-cache` (S22; by a GET of one byte where HEAD is
refused). Then each answer must have status 206, exactly the range, the same ETag and exactly the length (S20); a
server that ignores `Range` answers 200, and the part is cut out of that. A weak ETag is no proof (S18);
`Last-Modified`, which has a grain of 1 s, is one when `Date` is a minute later (S19). Bodies come as they are
(`Accept-Encoding: identity`, S21); the name is the URL after redirects (S23); a host whose ETags flap is not cached
(S21).
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from cleancache.errors import Changed
from cleancache.source.base import NONE, STRONG, WEAK, Clock, Fetched, Garbled, Version, fingerprint, token
from cleancache.source.flaps import Flaps

SETTLED_S = 60  # S19: a Last-Modified counts once Date is so much later
WHOLE_LIMIT = 64 << 20  # a server that ignores Range: up to here the whole body is kept, beyond it is skipped through

# Parts of signed URLs that change with every redirect and say nothing about the bytes
SIGNATURE = re.compile(
    r"(?i)^(x-amz-|x-goog-)"
    r"|^(signature|expires|key-pair-id|policy|awsaccesskeyid|googleaccessid)$"
    r"|^(sig|se|st|sp|sv|sr|skoid|sktid|skt|ske|sks|skv)$"  # Azure's
)


class HttpSource:
    """URLs, over an instance of `fsspec.implementations.http.HTTPFileSystem` in sync mode.

    Raises: FileNotFoundError for 404, else what aiohttp raises for the status, as fsspec's `cat_file` does. Threads:
    any.
    """

    is_near = False

    def __init__(self, fs: Any, *, clock: Clock = time.monotonic) -> None:
        self._fs = fs
        self.identity = fingerprint("http", [*fs.storage_options.items(), ("args", fs.storage_args)])
        self._flaps = Flaps(clock)

    def version(self, name: str) -> Version:
        """What HEAD says, past every cache that obeys."""
        version: Version = self._run(self._ask, name)
        return version

    def read(self, name: str, version: Version, offset: int, size: int | None) -> Fetched:
        """A conditional GET; the answer is checked before a byte of it is believed."""
        fetched: Fetched = self._run(self._get, name, version, offset, size)
        return fetched

    def first(self, name: str, offset: int, size: int | None) -> Fetched | None:
        """A GET that brings the version with it."""
        fetched: Fetched | None = self._run(self._get, name, None, offset, size)
        return fetched

    def _run(self, coroutine: Any, *arguments: Any) -> Any:
        from fsspec.asyn import sync

        return sync(self._fs.loop, coroutine, *arguments)

    def _request(self, session: Any, method: str, name: str, headers: dict[str, str]) -> Any:
        options = dict(self._fs.kwargs)
        own = dict(options.pop("headers", None) or {})
        options.setdefault("allow_redirects", True)
        return session.request(
            method, self._fs.encode_url(name), headers={**own, "Accept-Encoding": "identity", **headers}, **options
        )

    async def _ask(self, name: str) -> Version:
        session = await self._fs.set_session()
        fresh = {"Cache-Control": "no-cache"}
        async with self._request(session, "HEAD", name, fresh) as reply:
            if reply.status < 400:
                version = self._version(name, reply, _whole_size(reply))
                if version.size:
                    return version
        # HEAD may be forbidden where GET is not (signed URLs), or tell no size, or the size of its own empty body; an
        # error of GET is the one cat_file would have
        async with self._request(session, "GET", name, {**fresh, "Range": "bytes=0-0"}) as reply:
            if reply.status == 416:
                return self._version(name, reply, 0)
            self._fs._raise_not_found_for_status(reply, name)
            return self._version(name, reply, _whole_size(reply))

    def _version(self, name: str, reply: Any, size: int | None) -> Version:
        headers: Mapping[str, str] = reply.headers
        url = str(reply.url)
        etag, modified = headers.get("ETag", ""), headers.get("Last-Modified", "")
        control = headers.get("Cache-Control", "").lower()
        details = {
            "type": "file",
            "size": size,
            "ETag": etag,
            "Last-Modified": modified,
            "mimetype": headers.get("Content-Type", "").partition(";")[0],
            "url": url,
        }
        place = f"{name} {_without_signature(url)}" if url != str(self._fs.encode_url(name)) else name
        is_private = "private" in control or "no-store" in control
        if headers.get("Content-Encoding", "identity").lower() not in ("", "identity"):
            # what aiohttp hands out is decoded, so no length or range of the reply fits it
            return Version(b"", None, NONE, "the server encodes the body although it was asked not to", details, place)
        strength, why = STRONG, ""
        if headers.get("Vary", "").strip() == "*":
            strength, why = NONE, "Vary: * says that no two replies need be alike"
        elif self._flaps.note(name, etag, place):
            strength, why = NONE, "the host gives one URL different ETags in turn, or leads it to different places"
        elif etag.startswith("W/"):
            strength, why = WEAK, "a weak ETag may stay the same while bytes change"
        elif not etag and not modified:
            strength, why = NONE, "the server gives neither ETag nor Last-Modified"
        elif not etag and not _is_settled(headers):
            strength, why = NONE, "Last-Modified is younger than a minute and has a grain of a second"
        parts = token("etag", etag, size) if etag else token("modified", modified, size) if modified else b""
        return Version(parts, size, strength, why, details, place, is_private=is_private)

    async def _get(self, name: str, version: Version | None, offset: int, size: int | None) -> Fetched | None:
        headers = {}
        if version is not None and version.token and _is_strong(version.details["ETag"]):
            headers["If-Match"] = version.details["ETag"]
        is_encoded = version is not None and version.size is None and not version.token
        if (offset or size is not None) and not is_encoded:
            headers["Range"] = f"bytes={offset}-" if size is None else f"bytes={offset}-{offset + size - 1}"
        if version is None:
            headers["Cache-Control"] = "no-cache"
        session = await self._fs.set_session()
        async with self._request(session, "GET", name, headers) as reply:
            if reply.status == 412:
                raise Changed(name)
            if reply.status == 416:
                if version is None:
                    return None  # beyond the end, or empty: ask, then decide
                raise Changed(name)
            self._fs._raise_not_found_for_status(reply, name)
            found = self._version(name, reply, _whole_size(reply))
            if version is None:
                version = found
            elif not _is_same(found, version):
                raise Changed(name)
            return await _body(reply, name, version, offset, size, fit=found.strength != NONE)


def _is_strong(etag: str) -> bool:
    """Say whether *etag* can be a condition: equal ones mean equal bytes."""
    return bool(etag) and not etag.startswith("W/")


def _is_same(found: Version, asked: Version) -> bool:
    """Say whether a reply is of the version asked for; a size that one of them does not tell is no difference."""
    if not asked.token:
        return True  # nothing to compare: such bytes are not put
    told = ("ETag",) if _is_strong(asked.details["ETag"]) else ("ETag", "Last-Modified")
    return (
        all(found.details[field] == asked.details[field] for field in told)
        and (found.size == asked.size or None in (found.size, asked.size))
        and (found.place == asked.place or asked.strength == NONE)
    )


async def _body(reply: Any, name: str, version: Version, offset: int, size: int | None, *, fit: bool) -> Fetched:
    """The body of *reply*, which must be [*offset*, *offset* + *size*) or, if it ignores ranges, everything."""
    import aiohttp

    total = version.size
    stop = None if size is None else offset + size
    if total is not None:
        stop = total if stop is None else min(stop, total)
    try:
        if reply.status == 206:
            if total is None or _content_range(reply) != (offset, stop, total):
                came = reply.headers.get("Content-Range")
                raise Garbled(f"{name}: bytes {offset}-{stop} of {total} were asked for, {came} came")
            data = await reply.read()
            if len(data) != (stop or 0) - offset:
                raise Garbled(f"{name}: {len(data)} bytes came for the range {offset}-{stop}")
            return Fetched(data, offset, version, fit)
        if total is None or total <= WHOLE_LIMIT or (offset == 0 and stop == total):
            data = await reply.read()
            if total is not None and len(data) != total:
                raise Garbled(f"{name}: {len(data)} bytes came of {total}")
            return Fetched(data, 0, version, fit)
        return Fetched(await _skim(reply, name, offset, stop or total), offset, version, fit)
    except aiohttp.ClientPayloadError as error:
        raise Garbled(f"{name}: the body ended early") from error


async def _skim(reply: Any, name: str, offset: int, stop: int) -> bytes:
    """The part [*offset*, *stop*) of a body that is too large to keep."""
    at, parts = 0, []
    async for piece in reply.content.iter_chunked(1 << 18):
        parts.append(piece[max(0, offset - at) : max(0, stop - at)])
        at += len(piece)
        if at >= stop:
            reply.close()  # the rest is not wanted, so this connection cannot be used again
            break
    data = b"".join(parts)
    if len(data) != stop - offset:
        raise Garbled(f"{name}: {len(data)} bytes came for the range {offset}-{stop}")
    return data


def _content_range(reply: Any) -> tuple[int, int, int] | None:
    match = re.fullmatch(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})", reply.headers.get("Content-Range", "").strip())
    return (int(match[1]), int(match[2]) + 1, int(match[3])) if match else None


def _whole_size(reply: Any) -> int | None:
    """The size of the whole object, from a reply with or without a range."""
    if reply.status == 206:
        found = _content_range(reply)
        return found[2] if found else None
    length = reply.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def _is_settled(headers: Mapping[str, str]) -> bool:
    try:
        date, modified = (parsedate_to_datetime(headers.get(name, "")) for name in ("Date", "Last-Modified"))
        return (date - modified).total_seconds() >= SETTLED_S
    except (ValueError, TypeError):  # no date, or one with a time zone and one without
        return False


def _without_signature(url: str) -> str:
    """*url* without the parameters that sign it.

    >>> _without_signature("https://h/a?sku=1&X-Amz-Date=2&sig=3")
    'https://h/a?sku=1'
    """
    parts = urlsplit(url)
    said = parse_qsl(parts.query, keep_blank_values=True)
    kept = [(name, value) for name, value in said if not SIGNATURE.match(name)]
    return urlunsplit(parts._replace(query=urlencode(kept), fragment=""))
