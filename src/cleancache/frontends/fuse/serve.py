"""The life of one mount, in its own process: stack, source, session, control socket, and the end of all of them.

Order: the stack is connected (a kind that is not there yet is fine), the source is asked once, so that a missing
bucket or a refused credential is said while somebody listens; then the mount; the parent goes when the mount answers.
The end comes by umount, SIGTERM or a lost connection: flights end, a private pool's pages are flushed, its id is dead
(law 1.5).
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from cleancache.errors import Error, SpecError
from cleancache.frontends.control import Control
from cleancache.handle import Scope

if TYPE_CHECKING:
    from cleancache.config import Settings
    from cleancache.frontends.fuse.options import MountOptions
    from cleancache.pool import Pool
    from cleancache.reader import Reader

log = logging.getLogger("cleancache.frontends.fuse")
MOUNTED, USAGE, SYSTEM, FAILED = 0, 1, 2, 32
END_S = 5.0  # how long SIGTERM waits for those who still use the mount


def public(source: str) -> str:
    """*source* as `/proc/mounts` may show it: no user part, no query."""
    if "://" not in source:
        return source
    parts = urlsplit(source)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def run(source: str, where: str, options: MountOptions, *, ready: int | None, is_dry: bool = False) -> int:
    """Serve until the end; the exit code of mount(8). *ready* is told once the mount answers."""
    try:
        return Mount(source, where, options).run(ready, is_dry=is_dry)
    except SpecError as mistake:
        return _say(str(mistake), USAGE)
    except Error as obstacle:
        return _say(str(obstacle), FAILED)
    except OSError as error:
        return _say(f"{public(source)}: {error.strerror or error}", FAILED)


def _say(text: str, code: int) -> int:
    print(f"cleancache: {text}", file=sys.stderr, flush=True)
    return code


class Mount:
    """One mounted source."""

    def __init__(self, source: str, where: str, options: MountOptions) -> None:
        self.source, self.where, self.options = source, where, options
        self._is_stopped = False
        self._ended = threading.Event()

    def run(self, ready: int | None, *, is_dry: bool) -> int:
        """Mount and serve.  Raises: Error, SpecError, OSError, with a sentence for whoever asked."""
        from cleancache import config
        from cleancache.frontends.fuse import system

        system.settle_malloc()
        os.umask(0)
        settings = config.resolve(self.source, **self.options.settings)
        pool = self._pool(settings)
        tree, reader = self._tree(pool, settings)
        if is_dry:
            return MOUNTED
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._end)
        _raise_limit()
        self._serve(tree, reader, pool, settings, ready)
        return MOUNTED

    def _pool(self, settings: Settings) -> Pool:
        import cleancache

        return cleancache.connect(settings.stack, pool=settings.pool, limit=settings.limit)

    def _tree(self, pool: Pool, settings: Settings) -> tuple[Any, Reader]:
        from cleancache.reader import Reader

        sizes: dict[str, Any] = {"page_size": settings.page_size, "readahead": settings.readahead}
        kept_s = 3600.0 if settings.immutable else settings.max_stale
        if "://" not in self.source:
            from cleancache.frontends.fuse.directory import Directory
            from cleancache.frontends.fuse.files import NodeSource

            directory = Directory(
                self.source, is_read_only=self.options.is_read_only, kept_s=kept_s, is_direct=self.options.direct_io
            )
            source = NodeSource(directory.nodes, lease=settings.lease)
            reader = Reader(source, pool, immutable=settings.immutable, **sizes)
            directory.use(reader)
            return directory, reader
        from cleancache.frontends.fuse.urls import Urls

        urls = Urls.over(self.source, self.options, kept_s=kept_s)
        reader = Reader(urls.kind(settings), pool, max_stale=settings.max_stale, immutable=settings.immutable, **sizes)
        urls.use(reader)
        return urls, reader

    def _kernel_options(self, *, is_url: bool) -> list[str]:
        words = ["default_permissions", f"fsname={_escaped(public(self.source))}", "subtype=cleancache"]
        words += [word for word in self.options.kernel if word != "default_permissions"]
        if is_url or self.options.is_read_only:
            words.append("ro")
        return words

    def _serve(self, tree: Any, reader: Reader, pool: Pool, settings: Settings, ready: int | None) -> None:
        from cleancache.frontends.fuse.session import MOST_THREADS, Session

        threads = 1 if self.options.nothreads else MOST_THREADS
        session = Session(tree, self.where, self._kernel_options(is_url="://" in self.source), threads=threads)
        tree.virtual.tell = lambda: self.figures(reader, pool, settings)
        self._ended = session.ended
        control = Control(lambda asked: self._answer(asked, tree, session.forget_pages, reader, pool, settings))
        session.start()
        control.start()
        try:
            os.stat(self.where)  # the mount answers
            if ready is not None:
                self._detach()
                os.write(ready, b"ready")
                os.close(ready)
            self._ended.wait()
        finally:
            control.close()
            reader.close()
            pool.close()

    def _answer(
        self,
        asked: dict[str, Any],
        tree: Any,
        forget_pages: Callable[[int], None],
        reader: Reader,
        pool: Pool,
        settings: Settings,
    ) -> dict[str, object]:
        """What the control socket answers: figures, or that everything was forgotten, in the kernel too."""
        figures = self.figures(reader, pool, settings)
        if asked.get("verb") == "stats":
            return figures
        if asked.get("verb") == "flush" and asked.get("directory") == self.where:
            before = pool.backend.stats().resident_pages
            is_told = pool.flush(Scope(pool.id))
            for node in tree.all_nodes():
                forget_pages(node)
            return {"flushed": is_told, "pages": (before or 0) - (pool.backend.stats().resident_pages or 0)}
        return {"error": f"{asked.get('verb')!r} is not known here"}

    def _end(self, number: int, frame: FrameType | None) -> None:
        """SIGTERM and the like: the mount goes out of the tree now and ends when nobody uses it, or soon."""
        from cleancache.frontends.fuse import system

        if not self._is_stopped:
            self._is_stopped = True
            late = threading.Timer(END_S, self._ended.set)
            late.daemon = True
            late.start()
            try:
                system.detach(self.where)
            except OSError:
                log.debug("%s could not be detached; it ends with the process", self.where)

    @staticmethod
    def _detach() -> None:
        """Stand on our own: nobody's directory, nobody's terminal."""
        os.chdir("/")
        nowhere = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(nowhere, fd)
        os.close(nowhere)

    def figures(self, reader: Reader, pool: Pool, settings: Settings) -> dict[str, object]:
        """What `stats` shows of this mount."""
        from dataclasses import asdict

        from cleancache.tally import added_up

        counted = added_up(pool.backend.stats(), reader.stats())
        return {
            "source": public(self.source),
            "directory": self.where,
            "pid": os.getpid(),
            "stack": getattr(pool.backend, "name", settings.stack),
            "pool": pool.id[:4].hex(),
            "max_stale": settings.max_stale,
            "immutable": settings.immutable,
            "stats": {name: value for name, value in asdict(counted).items() if value is not None},
        }


def _escaped(text: str) -> str:
    """For libfuse, which takes commas and backslashes in a value with a backslash in front."""
    return text.replace("\\", "\\\\").replace(",", "\\,")


def _raise_limit() -> None:
    """As many descriptors as we may have: each open file of the mount is one of ours."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
