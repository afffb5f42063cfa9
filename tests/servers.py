"""An HTTP server that tests can command: real sockets on loopback, objects in a dict, and every fault of the catalogue.

It runs aiohttp in a thread of its own. `objects` maps a path to bytes; the ETag is a digest of them unless `etags`
says otherwise. `faults` maps a path to what goes wrong there (see `Fault`); `log` is the list of (method, path,
range, status), the only truth about requests.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

from aiohttp import web


@dataclass
class Fault:
    """What is wrong with one path. *times* None: always; else so often, then all is well again."""

    status: int | None = None  # answer with this status
    ignores_range: bool = False  # 200 for 206
    shifted: int = 0  # the range that comes begins so much later than the one asked for
    short: int = 0  # the body lacks so many bytes of what Content-Length says (the connection is cut)
    trimmed: int = 0  # the body and Content-Length lack so many bytes, Content-Range does not
    ignores_condition: bool = False  # If-Match is not looked at
    head_status: int | None = None  # HEAD alone is answered with this
    has_length: bool = True  # False: chunked, no Content-Length
    gzips: bool = False
    redirect: str | None = None  # 302 to this path
    headers: dict[str, str] = field(default_factory=dict)
    drops: tuple[str, ...] = ()  # headers that are left out
    times: int | None = None
    methods: tuple[str, ...] = ("GET", "HEAD")


class FileServer:
    """A web server on a free port of loopback.

    >>> with FileServer({"/a": b"clean"}) as server:
    ...     server.url("/a").startswith("http://127.0.0.1:")
    True
    """

    def __init__(self, objects: dict[str, bytes] | None = None) -> None:
        self.objects = objects if objects is not None else {}
        self.etags: dict[str, str] = {}
        self.modified: dict[str, float] = {}
        self.faults: dict[str, Fault] = {}
        self.log: list[tuple[str, str, str, int]] = []
        self.requests: list[dict[str, str]] = []  # headers, one dict a request
        self.delay_s = 0.0
        self._born = time.time()
        self.hook: Callable[[str, str], None] | None = None  # called with (method, path) before each answer
        self.sent_bytes = 0
        self.most_at_once = 0
        self._at_once = 0

    def url(self, path: str) -> str:
        """The URL of *path* here."""
        return f"http://127.0.0.1:{self.port}{path}"

    def count(self, method: str = "GET", path: str | None = None) -> int:
        """Requests of *method* so far."""
        return sum(1 for entry in self.log if entry[0] == method and path in (None, entry[1]))

    def __enter__(self) -> FileServer:
        ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(ready,), name="test file server", daemon=True)
        self._thread.start()
        assert ready.wait(60), "the file server did not start"
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)

    def _serve(self, ready: threading.Event) -> None:
        async def main() -> None:
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            application = web.Application()
            application.router.add_route("*", "/{tail:.*}", self._answer)
            runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.2)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.port: int = runner.addresses[0][1]
            ready.set()
            await self._stop.wait()
            await runner.cleanup()

        asyncio.run(main())

    def _fault(self, method: str, path: str) -> Fault:
        fault = self.faults.get(path, Fault())
        if method not in fault.methods:
            return Fault()
        if fault.times is not None:
            if fault.times <= 0:
                return Fault()
            fault.times -= 1
        return fault

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        method, path = request.method, request.path
        if self.hook is not None:
            self.hook(method, path)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        self._at_once -= 1
        self.requests.append(dict(request.headers))
        status, headers, body, cut = self._decide(request, self._fault(method, path))
        self.log.append((method, path, request.headers.get("Range", ""), status))
        reply = web.StreamResponse(status=status, headers=headers)
        if "Content-Length" not in headers:
            reply.enable_chunked_encoding()
        await reply.prepare(request)
        if method != "HEAD" and body:
            self.sent_bytes += len(body) - cut
            await reply.write(body[: len(body) - cut])
            if cut and request.transport is not None:
                request.transport.close()
        return reply

    def _decide(self, request: web.Request, fault: Fault) -> tuple[int, dict[str, str], bytes, int]:
        path, body = request.path, self.objects.get(request.path)
        if fault.redirect is not None:
            return 302, {"Location": fault.redirect, "Content-Length": "0"}, b"", 0
        refused = fault.status or (fault.head_status if request.method == "HEAD" else None)
        if refused or body is None:
            return refused or 404, {"Content-Length": "0"}, b"", 0
        etag = self.etags.get(path, f'"{hashlib.sha256(body).hexdigest()[:16]}"')
        modified = self.modified.get(path, self._born - 3600)
        headers = {"ETag": etag, "Last-Modified": formatdate(modified, usegmt=True), "Date": formatdate(usegmt=True)}
        status, total = 200, len(body)
        wanted = request.headers.get("If-Match")
        if wanted and wanted not in (etag, "*") and not fault.ignores_condition:
            return 412, {"Content-Length": "0"}, b"", 0
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
        if match and not fault.ignores_range:
            start = int(match[1]) + fault.shifted
            stop = min(int(match[2]) + 1 + fault.shifted if match[2] else total, total)
            if start >= total:
                return 416, {"Content-Range": f"bytes */{total}", "Content-Length": "0", **headers}, b"", 0
            status, body = 206, body[start : stop - fault.trimmed]
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{total}"
        if fault.gzips:
            body = gzip.compress(body)
            headers["Content-Encoding"] = "gzip"
        if fault.has_length:
            headers["Content-Length"] = str(len(body))
        headers.update(fault.headers)
        for name in fault.drops:
            headers.pop(name, None)
        return status, headers, body, min(fault.short, len(body))


def http_file_system(**options: Any) -> Any:
    """A fresh fsspec HTTP file system in sync mode; not one of fsspec's cached instances."""
    import fsspec

    return fsspec.filesystem("http", skip_instance_cache=True, **options)
