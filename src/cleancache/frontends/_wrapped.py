"""What is behind us: the target, the names there, and the settings of a name.

The target is always in sync mode, so that worker threads may call it; it is made at first use and, after a fork, anew
(law I14).
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from fsspec import AbstractFileSystem
from fsspec.asyn import get_loop
from fsspec.utils import stringify_path

from cleancache.frontends import _process

if TYPE_CHECKING:
    from cleancache.config import Config, Settings
    from cleancache.reader import Reader


class Wrapped:
    """The part of the file system that knows the target."""

    _given: dict[str, Any]
    _of_target: dict[str, Any]
    _target_protocol: str | None
    _template: AbstractFileSystem | None
    _template_pid: int
    _target: AbstractFileSystem | None
    _target_pid: int
    _pid: int
    _loop: asyncio.AbstractEventLoop | None
    asynchronous: bool
    batch_size: int | None
    _config: Config  # environment and files as they were when this instance was made
    _anywhere: Settings | None

    if TYPE_CHECKING:  # of the other parts
        open: Any
        isdir: Any
        _cat: Any
        _hop: Any
        _open_to_write: Any

    @property
    def fs(self) -> AbstractFileSystem:
        """The target, in sync mode and of this process."""
        if self._target is None or self._target_pid != os.getpid():
            if self._template is not None:
                target = _process.remake_target(self._template, is_foreign=self._template_pid != os.getpid())
            else:
                assert self._target_protocol is not None
                target = _process.make_target(self._target_protocol, self._target_options())
            self._target, self._target_pid = target, os.getpid()
        return self._target

    def _target_options(self) -> dict[str, Any]:
        protocol = str(self._target_protocol)  # of one instance are all its names, so only a whole protocol can match
        options = {**self._config.source_options(protocol, f"{protocol}://"), **self._of_target}
        if self._target_protocol in ("file", "local"):
            options.setdefault("auto_mkdir", True)  # zarr writes below directories that are not there yet
        return options

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop of the async twins; after a fork this process's own."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._loop = None if self.asynchronous else get_loop()
        return self._loop

    def reader(self, path: str) -> Reader:
        """The Reader that *path* is read through: the settings may differ by prefix (`[[source]]`)."""
        name = self._strip(path)
        return self._shared().reader(self._settings(name))

    def _shared(self) -> _process.Shared:
        return _process.here().shared(self.fs)

    def _settings(self, name: str | None) -> Settings:
        """The settings of *name*; None: where no prefix says otherwise."""
        if name is None or not self._config.prefixes:
            if self._anywhere is None:
                self._anywhere = self._config.resolve(**self._given)
            return self._anywhere
        return self._config.resolve(self.fs.unstrip_protocol(name), **self._given)

    @property
    def dircache(self) -> Any:
        """The target's listings; we keep none."""
        return getattr(self.fs, "dircache", {})

    @dircache.setter
    def dircache(self, value: Any) -> None:
        """fsspec's constructor sets one."""

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        """*path* without our prefix; on an instance also without the target's."""
        return plain(path)

    def _strip(self, path: Any) -> Any:
        return (
            self.fs._strip_protocol(plain(path)) if not isinstance(path, list) else [self._strip(each) for each in path]
        )

    def _parent(self, path: Any) -> Any:
        return self.fs._parent(plain(path))

    def unstrip_protocol(self, name: str) -> str:
        """The URL of *name* that leads through us: DuckDB opens what this makes of our own globs."""
        return f"cleancache::{self.fs.unstrip_protocol(plain(name))}"

    @property
    def sep(self) -> str:
        return str(self.fs.sep)

    @property
    def root_marker(self) -> str:
        return str(self.fs.root_marker)

    @property
    def fsid(self) -> str:
        """The target's id, with our prefix."""
        return f"cleancache::{self.fs.fsid}"


def plain(path: Any) -> Any:
    """*path* (or each of a list) without our prefix."""
    if isinstance(path, list):
        return [plain(each) for each in path]
    path = stringify_path(path)
    return path.removeprefix("cleancache::").removeprefix("cleancache://") if isinstance(path, str) else path


def protocols(target: AbstractFileSystem | type[AbstractFileSystem]) -> tuple[str, ...]:
    """The protocols of an instance over *target*: ours, and ours before each of its own, as in the URLs we make."""
    theirs = (target.protocol,) if isinstance(target.protocol, str) else tuple(target.protocol)
    return ("cleancache", *(f"cleancache::{protocol}" for protocol in theirs))


def listed(path: Any) -> list[str]:
    return list(path) if isinstance(path, (list, tuple, set)) else [path]
