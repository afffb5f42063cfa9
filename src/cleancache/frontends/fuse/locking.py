"""Requests for locks. One that has to wait leaves for a thread of its own: it must not hold one that the unlock
needs.
"""

from __future__ import annotations

import ctypes
import errno
import threading
from collections.abc import Callable
from typing import Any

from cleancache.frontends.fuse.binding import Library
from cleancache.frontends.fuse.shape import Lock, Tree, errno_of


class Locking:
    """The part of a session that answers getlk, setlk and flock."""

    tree: Tree
    _library: Library
    _lib: Any
    _fh: Callable[[int], int]
    _owner: Callable[[int], int]
    _done: Callable[[int], None]

    def _getlk(self, request: int, _: int, info: int, lock: int) -> None:
        self._lock_of(request, info, lock, only_asks=True, waits=False)

    def _setlk(self, request: int, _: int, info: int, lock: int, waits: int) -> None:
        self._lock_of(request, info, lock, only_asks=False, waits=bool(waits))

    def _lock_of(self, request: int, info: int, lock: int, *, only_asks: bool, waits: bool) -> None:
        wish = self._library.flock.from_address(lock)
        number = self._fh(info)
        asked = Lock(wish.l_type, wish.l_start, wish.l_len, wish.l_pid, self._owner(info))
        if only_asks:
            found = self.tree.lock(number, asked, only_asks=True)
            answer = self._library.flock()
            answer.l_type, answer.l_start, answer.l_len, answer.l_pid = found[:4]
            self._lib.fuse_reply_lock(request, ctypes.byref(answer))
            return
        self._try(request, lambda: self.tree.lock(number, asked, only_asks=False), waits=waits)

    def _flock(self, request: int, _: int, info: int, operation: int) -> None:
        number, waits = self._fh(info), not operation & 4
        self._try(request, lambda: self.tree.flock(number, operation | 4), waits=waits)

    def _try(self, request: int, attempt: Callable[[], object], *, waits: bool) -> None:
        try:
            attempt()
        except BlockingIOError:
            if not waits:
                raise
            threading.Thread(target=self._wait, args=(request, attempt), name="cleancache-lock", daemon=True).start()
            return
        self._done(request)

    def _wait(self, request: int, attempt: Callable[[], object]) -> None:
        pause, number = threading.Event(), 0
        for step in range(1 << 30):
            if self._lib.fuse_req_interrupted(request):
                number = errno.EINTR
                break
            try:
                attempt()
                break
            except BlockingIOError:
                pause.wait(min(0.05, 0.001 * (step + 1)))
            except OSError as error:
                number = errno_of(error)
                break
        self._lib.fuse_reply_err(request, number)
