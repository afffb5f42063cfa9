"""The control socket of each mount: where `cleancache stats` and `cleancache flush DIR` ask.

A Unix socket in this user's runtime directory: `/run/cleancache` for root, `$XDG_RUNTIME_DIR/cleancache` for others;
a directory that another user could have made first (as in /tmp) is never taken, so where there is none there is no
socket. One line of JSON each way, 64 KiB at most; the kernel says who asks, and only the owner and root are answered.
What a killed mount left behind is removed by whoever finds nobody there.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

log = logging.getLogger("cleancache.frontends.control")
MOST_BYTES = 1 << 16
WAIT_S = 2.0

Answer = Callable[[dict[str, Any]], dict[str, Any]]


def runtime_directory() -> Path | None:
    """Where this user's sockets are; None, where no place is safe."""
    if os.geteuid() == 0:
        return Path("/run/cleancache")
    given = os.environ.get("XDG_RUNTIME_DIR", "") or f"/run/user/{os.geteuid()}"
    return Path(given) / "cleancache" if os.path.isdir(given) else None


class Control:
    """One listening socket and its thread.  *answer* gets what was asked."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.path: Path | None = None
        self._socket: socket.socket | None = None

    def start(self) -> None:
        """Listen; without a place for it the mount goes on without."""
        directory = runtime_directory()
        if directory is None:
            log.info("no runtime directory: 'cleancache stats' will not see this mount")
            return
        try:
            directory.mkdir(mode=0o700, exist_ok=True)
            if directory.stat().st_uid != os.geteuid():
                raise PermissionError(f"{directory} belongs to another user")
            self.path = directory / f"mount-{os.getpid()}.sock"
            self.path.unlink(missing_ok=True)
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.bind(str(self.path))
            self.path.chmod(0o600)
            self._socket.listen(8)
        except OSError as error:
            log.info("no control socket: %s", error)
            self.close()
            return
        threading.Thread(target=self._serve, name="cleancache-control", daemon=True).start()

    def _serve(self) -> None:
        assert self._socket is not None
        while True:
            try:
                caller, _ = self._socket.accept()
            except OSError:
                return  # closed
            with caller, contextlib.suppress(OSError, ValueError):
                caller.settimeout(WAIT_S)
                _, uid, _ = struct.unpack("3i", caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
                if uid in (0, os.geteuid()):
                    asked = json.loads(_line(caller))
                    caller.sendall(json.dumps(self._answer(asked), default=str).encode() + b"\n")

    def close(self) -> None:
        """Listen no more."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def _line(peer: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b"\n"):
        part = peer.recv(MOST_BYTES)
        data += part
        if not part or len(data) > MOST_BYTES:
            break
    return data


def ask(path: Path, **asked: object) -> dict[str, Any] | None:
    """The answer of the mount at *path*; None, if nobody is there any more."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(WAIT_S)
        try:
            peer.connect(str(path))
            peer.sendall(json.dumps(asked).encode() + b"\n")
            found: dict[str, Any] = json.loads(_line(peer))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)  # killed: nobody will answer there again
            return None
        except (OSError, ValueError):
            return None
    return found


def ask_all(**asked: object) -> list[dict[str, Any]]:
    """The answers of all mounts of this user."""
    directory = runtime_directory()
    found = sorted(directory.glob("mount-*.sock")) if directory is not None else []
    return [answer for path in found if (answer := ask(path, **asked)) is not None]
