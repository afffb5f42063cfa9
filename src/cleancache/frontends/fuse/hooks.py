"""The hooks of a directory mount: what is flushed, before and after each change (`docs/laws`, section 3).

A flush is never skipped because nothing is thought to be cached (V12). While a file has a writer no page of it is put;
the Reader is told when the first one comes and when the last one has closed (F8, S13).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING

from cleancache.frontends.fuse import system
from cleancache.frontends.fuse.nodes import Handle, Node, Nodes
from cleancache.frontends.fuse.shape import Caller
from cleancache.handle import Scope
from cleancache.source.stamp import stamp_of

if TYPE_CHECKING:
    from cleancache.reader import Reader

MOST_PAGES = 16  # a change of more pages flushes the object


class Hooks:
    """The flushes around changes.  Threads: any."""

    reader: Reader | None = None
    nodes: Nodes

    def _begin_writing(self, node: Node, fd: int) -> None:
        if self.reader is None:
            return
        node.object = self._object(fd)
        node.writing = ExitStack()
        node.writing.enter_context(self.reader.writing(node.name))
        self._flush(node, fd)

    def _end_writing(self, node: Node, fd: int) -> None:
        node.writing.close()
        self._flush(node, fd)
        with self.nodes.lock:
            node.token = None

    def _object(self, fd: int) -> bytes | None:
        """What pages of the file as it is now are put under."""
        assert self.reader is not None
        return self.reader.object_of("", stamp_of(fd).token)

    def _flush(self, node: Node, fd: int | None) -> None:
        if self.reader is not None:
            for obj in {node.object, self._object(fd) if fd is not None else None} - {None}:
                self.reader.pool.flush(Scope(self.reader.pool.id, obj))

    def _flush_pages(self, node: Node, offset: int, size: int) -> None:
        if self.reader is None or node.object is None:
            return
        pool, page_size = self.reader.pool, self.reader.page_size
        first, last = offset // page_size, (offset + max(size, 1) - 1) // page_size
        if last - first >= MOST_PAGES:
            pool.flush(Scope(pool.id, node.object))
            return
        for page in range(first, last + 1):
            pool.flush(Scope(pool.id, node.object, page))

    @contextmanager
    def changing(self, node: Node, fd: int, offset: int | None = None, size: int = 0) -> Iterator[None]:
        """The flushes around a change of a range, or of what cannot be told."""
        with self.nodes.lock:
            node.token = None
        if offset is None:
            self._flush(node, fd)
        else:
            self._flush_pages(node, offset, size)
        try:
            yield
        finally:
            with self.nodes.lock:
                node.token = None
            if offset is None:
                self._flush(node, fd)
            else:
                self._flush_pages(node, offset, size)

    @contextmanager
    def leaving(self, node: Node | None) -> Iterator[None]:
        """The flushes around the loss of a name: of what is unlinked or renamed over."""
        if node is None or self.reader is None:
            yield
            return
        self.reader.flush(node.name)
        try:
            yield
        finally:
            node.is_unlinked = True
            self.reader.flush(node.name)

    @contextmanager
    def before_truncation(self, node: Node, flags: int) -> Iterator[None]:
        """The hook of O_TRUNC, which changes the file before there is a descriptor."""
        if not flags & os.O_TRUNC or self.reader is None:
            yield
            return
        with self.reader.writing(node.name):
            with self.nodes.lock:
                node.token = None
            yield

    def truncate(
        self,
        caller: Caller,
        node: Node,
        size: int,
        handle: Handle | None,
        pin: Callable[[], AbstractContextManager[bytes]],
    ) -> None:
        """Up or down; with the caller's own descriptor where there is one."""
        if handle is not None and handle.is_writer:
            with self.changing(node, handle.fd):
                os.ftruncate(handle.fd, size)
            return
        with pin() as path, system.as_caller(caller):
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            with ExitStack() as stack:
                if self.reader is not None:
                    stack.enter_context(self.reader.writing(node.name))
                stack.enter_context(self.changing(node, fd))
                os.ftruncate(fd, size)
        finally:
            os.close(fd)
