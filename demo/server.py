"""The source: a real HTTP server on loopback, in a process of its own, that counts what it is asked for.

aiohttp's file responses give a strong ETag (time of change and size), ranges and conditional requests. Each request
waits first, as a request to a far place does. Started with one JSON line on stdin, answers with its port on stdout, and
ends when stdin does: it cannot outlive whoever started it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import IO, Any

from aiohttp import web

CONTROL = "/-/counts"  # the demo's own question: neither delayed nor counted


class Counts:
    """What the source was asked for: requests, and the bytes of the bodies that it sent."""

    def __init__(self) -> None:
        self.requests = 0
        self.bytes = 0


class CountedFile(web.FileResponse):
    """A file response that counts what really left: a client may hang up in the middle."""

    def __init__(self, path: Path, counts: Counts) -> None:
        super().__init__(path)
        self._counts = counts

    async def _sendfile(self, request: web.BaseRequest, fobj: IO[Any], offset: int, count: int) -> Any:
        try:
            return await super()._sendfile(request, fobj, offset, count)
        finally:
            self._counts.bytes += max(0, fobj.tell() - offset)  # the position is kept up even when sending fails


def make_app(files: dict[str, str], delay_s: float) -> web.Application:
    """The application that serves *files* (name → path), each request *delay_s* later than it could."""
    counts = Counts()

    async def give(request: web.Request) -> web.StreamResponse:
        counts.requests += 1
        await asyncio.sleep(delay_s)
        path = files.get(request.match_info["name"])
        if path is None:
            raise web.HTTPNotFound()
        return CountedFile(Path(path), counts)

    async def tell(request: web.Request) -> web.StreamResponse:
        return web.json_response({"requests": counts.requests, "bytes": counts.bytes})

    app = web.Application()
    app.router.add_get(CONTROL, tell)
    app.router.add_get("/{name:.+}", give)  # HEAD too
    return app


async def serve() -> None:
    """Serve what the line on stdin says until stdin ends."""
    loop = asyncio.get_running_loop()
    order = json.loads(await loop.run_in_executor(None, sys.stdin.readline))
    runner = web.AppRunner(make_app(order["files"], order["delay_s"]), access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        print(json.dumps({"port": runner.addresses[0][1]}), flush=True)
        await loop.run_in_executor(None, sys.stdin.read)
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(serve())
