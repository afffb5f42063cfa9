"""A relay between a client and a real server on loopback that delays, cuts, flips, swallows or drips what comes back.

One thread with its own event loop; a context manager. Attributes may be changed while it runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import dataclass, field


@dataclass
class Relay:
    """A relay to *host*:*port*; `with Relay(…) as relay:` then connect to 127.0.0.1:`relay.here`.

    *delay_s* before each piece that comes back · *cut_after* bytes the connection is reset · *flip_at*: one bit of the
    byte at that place of the stream is turned · *is_black_hole*: nothing comes back · *drip*: single bytes, each after
    *delay_s*.
    """

    port: int
    host: str = "127.0.0.1"
    delay_s: float = 0.0
    cut_after: int | None = None
    flip_at: int | None = None
    is_black_hole: bool = False
    drip: bool = False
    here: int = 0
    connections: int = 0
    _loop: asyncio.AbstractEventLoop = field(init=False, repr=False)
    _thread: threading.Thread = field(init=False, repr=False)
    _ends: list[asyncio.StreamWriter] = field(default_factory=list, init=False, repr=False)
    _pumps: list[asyncio.Task[None]] = field(default_factory=list, init=False, repr=False)
    _pairs: list[asyncio.Task[None]] = field(default_factory=list, init=False, repr=False)  # the loop holds them weakly

    def __enter__(self) -> Relay:
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="relay", daemon=True)
        self._thread.start()
        ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve(ready))
        finally:
            self._loop.close()

    async def _serve(self, ready: threading.Event) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.here = server.sockets[0].getsockname()[1]
        ready.set()
        await self._stop.wait()
        for listening in server.sockets:
            self._loop.remove_reader(listening.fileno())
        await asyncio.sleep(0.001)  # asyncio forgets a connection that it accepted just before its server is closed
        server.close()
        while asyncio.all_tasks() - {asyncio.current_task()}:  # nothing but pumps is cancelled: the others hold sockets
            for end in self._ends:
                end.transport.abort()
            for pump in self._pumps:
                pump.cancel()
            await asyncio.sleep(0.001)
        for end in self._ends:
            end.transport.abort()
        await asyncio.sleep(0.001)  # in which they close their sockets

    def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A connection came; what is not closed when the relay ends is closed then."""
        self.connections += 1
        self._ends.append(writer)
        self._pairs.append(asyncio.ensure_future(self._pair(reader, writer)))

    async def _pair(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(self.host, self.port)
        except OSError:
            writer.close()
            return
        self._ends.append(far_writer)
        up = asyncio.ensure_future(self._pump(reader, far_writer, is_back=False))
        down = asyncio.ensure_future(self._pump(far_reader, writer, is_back=True))
        self._pumps += up, down
        await asyncio.wait([up, down], return_when=asyncio.FIRST_COMPLETED)
        for task in (up, down):
            task.cancel()
        await asyncio.gather(up, down, return_exceptions=True)
        for end in (writer, far_writer):
            end.close()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, is_back: bool) -> None:
        sent = 0
        while data := await source.read(1 << 16):
            if is_back:
                if self.is_black_hole:
                    continue
                if self.flip_at is not None and sent <= self.flip_at < sent + len(data):
                    turned = bytearray(data)
                    turned[self.flip_at - sent] ^= 1
                    data = bytes(turned)
                if self.cut_after is not None and sent + len(data) >= self.cut_after:
                    sink.write(data[: max(0, self.cut_after - sent)])
                    await sink.drain()
                    sink.transport.abort()
                    return
                for piece in [data[i : i + 1] for i in range(len(data))] if self.drip else [data]:
                    await asyncio.sleep(self.delay_s)
                    sink.write(piece)
                    await sink.drain()
            else:
                sink.write(data)
                await sink.drain()
            sent += len(data)
        with contextlib.suppress(OSError, RuntimeError):
            sink.write_eof()
