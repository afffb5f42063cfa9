"""For tests of the mount: a source, a place to mount at, and the reason where nothing can be mounted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mount.mounting import need_fuse


@pytest.fixture(autouse=True)
def fuse() -> None:
    """These tests mount for real."""
    need_fuse()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """An empty directory to be mounted."""
    path = tmp_path / "source"
    path.mkdir()
    return path


@pytest.fixture
def where(tmp_path: Path) -> Path:
    """A place to mount at."""
    path = tmp_path / "mount"
    path.mkdir()
    return path
