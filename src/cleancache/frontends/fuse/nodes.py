"""The files the kernel knows of: a number each, by what the file *is* (device and inode), and the names it was seen by.

Hard links are one node and so have one page cache; a renamed file keeps its node; one that another file took its name
from is reached through an open descriptor, or is stale. An inode number is not given out again while we hold a
descriptor, and what is reused after that meets another version at its next open (F1).
"""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack
from threading import RLock
from typing import TYPE_CHECKING, Any

from cleancache.frontends.fuse.shape import ROOT

if TYPE_CHECKING:
    from cleancache.reader import Opened

MOST_DEEP = 2048  # names from a node up to the root; more is a circle, made by renames beside the mount

Key = tuple[int, int]


class Node:
    """One file, directory or other thing of the source.  Guarded by the lock of `Nodes`."""

    __slots__ = ("handles", "id", "is_unlinked", "key", "lookups", "names", "object", "token", "writers", "writing")

    def __init__(self, id: int, key: Key) -> None:
        self.id = id
        self.key = key
        self.names: dict[tuple[Node, bytes], None] = {}  # the one seen last is the last
        self.lookups = 0
        self.handles: dict[int, int] = {}  # number of an open file → its descriptor
        self.writers = 0
        self.writing = ExitStack()  # ends when the last writer has closed
        self.object: bytes | None = None  # what its pages were put under when the first writer came
        self.token: bytes | None = (
            None  # version of every page that the kernel may hold; None: not one that proves much
        )
        self.is_unlinked = False

    @property
    def name(self) -> str:
        """What the Reader calls it."""
        return f"{self.key[0]:x}:{self.key[1]:x}"


class Handle:
    """One open file."""

    __slots__ = ("asked", "fd", "is_writer", "locks", "node", "opened", "plain_fd", "seen")

    def __init__(self, node: Node, fd: int, *, is_writer: bool) -> None:
        self.node, self.fd, self.is_writer = node, fd, is_writer
        self.opened: Opened | None = None
        self.seen: tuple[int, int, int] | None = None  # size and stamps of `opened`
        self.asked = 0.0
        self.plain_fd = -1  # for pages of a mapping, where `fd` appends
        self.locks: dict[int, int] = {}  # owner → a descriptor whose locks are that owner's


class Nodes:
    """Numbers → nodes.  Threads: any; one short lock, held across no call to the source."""

    def __init__(self, root: bytes, key: Key) -> None:
        self.lock = RLock()  # guards everything here, and the fields of nodes
        self._root_path = root.rstrip(b"/") or b"/"
        self.root = Node(ROOT, key)
        self.root.lookups = 1
        self._by_id: dict[int, Node] = {ROOT: self.root}
        self._by_key: dict[Key, Node] = {key: self.root}
        self._children: dict[tuple[int, bytes], Node] = {}
        self._next = ROOT + 1

    def get(self, id: int) -> Node:
        """The node of a number.  Raises: OSError(ESTALE), if the kernel was told to forget it."""
        try:
            return self._by_id[id]
        except KeyError:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE)) from None

    def named(self, name: str) -> Node | None:
        """The node that the Reader calls *name*."""
        device, _, inode = name.partition(":")
        return self._by_key.get((int(device, 16), int(inode, 16)))

    def enter(self, parent: Node, name: bytes, status: Any) -> Node:
        """*name* in *parent* is this file; the kernel knows it once more."""
        key = (status.st_dev, status.st_ino)
        with self.lock:
            node = self._by_key.get(key)
            if node is None:
                node = self._by_key[key] = self._by_id[self._next] = Node(self._next, key)
                self._next += 1
            self._name(node, parent, name)
            node.lookups += 1
            node.is_unlinked = False
            return node

    def _name(self, node: Node, parent: Node, name: bytes) -> None:
        older = self._children.get((parent.id, name))
        if older is not None and older is not node:
            older.names.pop((parent, name), None)
        self._children[(parent.id, name)] = node
        node.names.pop((parent, name), None)
        node.names[(parent, name)] = None

    def at(self, parent: Node, name: bytes) -> Node | None:
        """Which node was last seen there."""
        return self._children.get((parent.id, name))

    def unname(self, parent: Node, name: bytes) -> None:
        """Nothing is there any more."""
        with self.lock:
            node = self._children.pop((parent.id, name), None)
            if node is not None:
                node.names.pop((parent, name), None)

    def move(self, parent: Node, name: bytes, to: Node, new: bytes) -> None:
        """What was at *name* is at *new* now."""
        with self.lock:
            node = self._children.get((parent.id, name))
            self.unname(parent, name)
            self.unname(to, new)
            if node is not None:
                self._name(node, to, new)

    def swap(self, parent: Node, name: bytes, to: Node, new: bytes) -> None:
        """The two have changed places."""
        with self.lock:
            one, other = self._children.get((parent.id, name)), self._children.get((to.id, new))
            self.unname(parent, name)
            self.unname(to, new)
            if one is not None:
                self._name(one, to, new)
            if other is not None:
                self._name(other, parent, name)

    def path(self, node: Node, name: bytes | None = None) -> bytes:
        """Where *node* (or *name* in it) was last seen.  Raises: OSError(ESTALE), if it has no name left."""
        parts = [] if name is None else [name]
        with self.lock:
            for _ in range(MOST_DEEP):
                if node is self.root:
                    parts.append(self._root_path)
                    return b"/".join(reversed(parts))
                if not node.names:
                    break
                node, last = next(reversed(node.names))
                parts.append(last)
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    def held(self, node: Node) -> int | None:
        """A descriptor of *node*, for the caller to close, if it is open; our own, for the one it comes from may be
        closed, and its number given to another file, at any moment."""
        with self.lock:
            for fd in node.handles.values():
                return os.dup(fd)
        return None

    def forget(self, id: int, times: int) -> None:
        """The kernel knows it *times* less."""
        with self.lock:
            node = self._by_id.get(id)
            if node is not None and node is not self.root:
                node.lookups -= times
                self.prune(node)

    def prune(self, node: Node) -> None:
        """Under the lock: drop a node that nobody knows or has open."""
        if node.lookups > 0 or node.handles or node is self.root:
            return
        self._by_id.pop(node.id, None)
        if self._by_key.get(node.key) is node:
            del self._by_key[node.key]
        for parent, name in node.names:
            if self._children.get((parent.id, name)) is node:
                del self._children[(parent.id, name)]

    def all_files(self) -> list[int]:
        """The numbers of all nodes, for dropping their pages."""
        with self.lock:
            return list(self._by_id)
