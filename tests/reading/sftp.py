"""An SFTP server over one directory, in a thread, on a free port of loopback (paramiko)."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import Any

import paramiko  # type: ignore[import-untyped]  # it has no stubs of its own


class _Login(paramiko.ServerInterface):  # type: ignore[misc]  # as above
    def check_auth_password(self, username: str, password: str) -> int:
        return int(paramiko.AUTH_SUCCESSFUL)

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return int(paramiko.OPEN_SUCCEEDED)


class _Files(paramiko.SFTPServerInterface):  # type: ignore[misc]  # as above
    root = "/"

    def _path(self, path: str) -> str:
        return f"{self.root}{self.canonicalize(path)}"

    def stat(self, path: str) -> Any:
        try:
            return paramiko.SFTPAttributes.from_stat(os.stat(self._path(path)))
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno or 0)

    lstat = stat

    def open(self, path: str, flags: int, attr: Any) -> Any:
        try:
            file = open(self._path(path), "rb")  # noqa: SIM115  (the handle closes it)
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno or 0)
        handle = paramiko.SFTPHandle(flags)
        handle.readfile = file
        return handle


class SftpServer:
    """Serves *root* read-only; `port` says where."""

    def __init__(self, root: Path) -> None:
        self._files = type("Files", (_Files,), {"root": str(root)})
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._transports: list[paramiko.Transport] = []
        self._thread = threading.Thread(target=self._accept, name="test sftp server", daemon=True)

    def __enter__(self) -> SftpServer:
        self._key = paramiko.RSAKey.generate(2048)
        self._thread.start()
        return self

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            transport = paramiko.Transport(connection)
            transport.add_server_key(self._key)
            transport.set_subsystem_handler("sftp", paramiko.SFTPServer, self._files)
            transport.start_server(event=threading.Event(), server=_Login())
            self._transports.append(transport)

    def __exit__(self, *exc: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for transport in self._transports:
            transport.close()
            transport.join(60)
        self._thread.join(60)
