"""A real web server on loopback for the tests of the surfaces: files of a folder with strong ETags, ranges and
If-Match.

Below `/weak/` the same files have a weak ETag only, below `/bare/` no version at all; `/hang/…` begins an answer and
never ends it; `/denied/…` is 403. Each request is counted by method.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web


@dataclass
class Site:
    """Where the server is, what it serves, and what it was asked."""

    url: str
    folder: Path
    requests: Counter[str] = field(default_factory=Counter)
    hung: threading.Event = field(default_factory=threading.Event)

    def write(self, name: str, data: bytes) -> str:
        """Serve *data* as *name*; its URL."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return f"{self.url}/{name}"


@contextmanager
def serving(folder: Path) -> Iterator[Site]:
    """A site over *folder*, in a thread with a loop of its own, on a port that the system chose."""
    site = Site("", folder)
    is_up = threading.Event()
    loop = asyncio.new_event_loop()
    end = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        site.requests[request.method] += 1
        first, _, rest = request.path.lstrip("/").partition("/")
        if first == "denied":
            raise web.HTTPForbidden
        if first == "hang":
            response = web.StreamResponse(headers={"Content-Length": "1000000", "ETag": '"h"'})
            await response.prepare(request)
            if request.method != "HEAD":
                site.hung.set()
                await end.wait()
            return response
        path = folder / (rest if first in ("weak", "bare") else request.path.lstrip("/"))
        if not path.is_file():
            raise web.HTTPNotFound
        if first == "weak":
            return web.Response(body=path.read_bytes(), headers={"ETag": 'W/"weak"'})
        if first == "bare":
            return web.Response(body=path.read_bytes())
        return web.FileResponse(path)

    async def run() -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=0.1)
        await runner.setup()
        place = web.TCPSite(runner, "127.0.0.1", 0)
        await place.start()
        host, port = runner.addresses[0][:2]
        site.url = f"http://{host}:{port}"
        is_up.set()
        await end.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()), name="site", daemon=True)
    thread.start()
    assert is_up.wait(60)
    try:
        yield site
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join(60)
        loop.close()
