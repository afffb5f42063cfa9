"""fsspec's own suite, in full, over three targets: a file system that is what we say it is behaves as fsspec says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.tests.abstract import (
    AbstractCopyTests,
    AbstractFixtures,
    AbstractGetTests,
    AbstractOpenTests,
    AbstractPipeTests,
    AbstractPutTests,
)

from tests.surfaces.servers import BUCKET, S3, clean_start, s3_server

__all__ = ["clean_start"]

STACK = "zcache:16M"
# of the fixtures in fsspec 2025.10, the lowest version that we take
pytestmark = pytest.mark.filterwarnings("ignore:Class-scoped fixtures:pytest.PytestDeprecationWarning")


class OverFile(AbstractFixtures):
    @pytest.fixture
    def fs(self) -> Any:
        return fsspec.filesystem("cleancache", target_protocol="file", stack=STACK)

    @pytest.fixture
    def fs_path(self, tmpdir: Any) -> str:
        return str(tmpdir)

    @pytest.fixture
    def fs_sanitize_path(self) -> Any:
        return lambda path: path


class OverMemory(AbstractFixtures):
    @pytest.fixture
    def fs(self) -> Iterator[Any]:
        yield fsspec.filesystem("cleancache", target_protocol="memory", stack=STACK)
        MemoryFileSystem.store.clear()
        MemoryFileSystem.pseudo_dirs[:] = [""]

    @pytest.fixture
    def fs_join(self) -> Any:
        return lambda *args: "/".join(args)

    @pytest.fixture
    def fs_path(self) -> str:
        return ""


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_server() as server:
        yield server


class OverS3(AbstractFixtures):
    @pytest.fixture
    def fs(self, s3: S3) -> Any:
        return fsspec.filesystem("cleancache", target_protocol="s3", target_options=s3.options, stack=STACK)

    @pytest.fixture
    def fs_join(self) -> Any:
        return lambda *args: "/".join(args)

    @pytest.fixture
    def fs_path(self, fs: Any) -> str:
        return BUCKET

    @pytest.fixture
    def supports_empty_directories(self) -> bool:
        return False


class TestCopyFile(AbstractCopyTests, OverFile): ...


class TestGetFile(AbstractGetTests, OverFile): ...


class TestOpenFile(AbstractOpenTests, OverFile): ...


class TestPipeFile(AbstractPipeTests, OverFile): ...


class TestPutFile(AbstractPutTests, OverFile): ...


class TestCopyMemory(AbstractCopyTests, OverMemory): ...


class TestGetMemory(AbstractGetTests, OverMemory): ...


class TestOpenMemory(AbstractOpenTests, OverMemory): ...


class TestPipeMemory(AbstractPipeTests, OverMemory): ...


class TestPutMemory(AbstractPutTests, OverMemory): ...


class TestCopyS3(AbstractCopyTests, OverS3): ...


class TestGetS3(AbstractGetTests, OverS3): ...


class TestOpenS3(AbstractOpenTests, OverS3): ...


class TestPipeS3(AbstractPipeTests, OverS3): ...


class TestPutS3(AbstractPutTests, OverS3): ...
