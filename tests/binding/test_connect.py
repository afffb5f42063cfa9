"""`cleancache.connect`, `register`, `open`, and what the import of the package costs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import cleancache
from cleancache import registry
from cleancache.errors import SpecError
from tests.binding.dicts import Makes

OBJECT = b"o" * 24
UUID = "6f1c2d3e-4a5b-4c6d-8e7f-a0b1c2d3e4f5"


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A default registry and a home of the test's own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("CLEANCACHE_STACK", raising=False)
    kinds = registry.Registry()
    monkeypatch.setattr(registry, "default", kinds)
    yield
    kinds.close()


def test_connect_gives_a_pool_that_caches() -> None:
    with cleancache.connect("zcache:pressure=no:8M") as pool:
        handle = cleancache.Handle(pool.id, OBJECT, 0)
        assert pool.put(handle, b"clean")
        assert pool.get(handle) == b"clean"
        assert not pool.is_shared


def test_without_a_stack_it_is_a_zcache_of_256M_and_the_limit_can_be_named() -> None:
    texts = [cleancache.connect().backend, cleancache.connect("zcache:256M").backend]
    assert texts[0] is texts[1]
    small = cleancache.connect(limit="16M").backend
    assert isinstance(small, cleancache.Slot)
    assert small.text == "zcache:16M"


def test_I1_connect_with_a_uuid_shares() -> None:
    one, two = (cleancache.connect("zcache:pressure=no:8M", pool=UUID) for _ in range(2))
    one.put(cleancache.Handle(one.id, OBJECT, 0), b"a")

    assert one.id == two.id == bytes.fromhex(UUID.replace("-", ""))
    assert two.get(cleancache.Handle(two.id, OBJECT, 0)) == b"a"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"stack": "zcache:1 G"}, "%20"),
        ({"stack": "zcache:huge"}, "is no size"),
        ({"stack": "zcache:codex=lz4:1G"}, "codec"),
        ({"stack": "zcache+tmem"}, "takes one"),
        ({"pool": "mine"}, "UUID"),
        ({"limit": "lots"}, "is no size"),
        ({"stack": "zcache:exclusive=yes:8M", "pool": UUID}, "exclusive"),
        ({"stack": "zcache:exclusive=on:8M", "pool": UUID}, "exclusive"),
        ({"stack": "zcache:pressure=perhaps:8M"}, "neither yes nor no"),
        ({"stack": "zcache:password=hush:8M"}, r"password=\*\*\*"),
    ],
)
def test_a_mistake_raises_at_connect(arguments: dict[str, str], says: str) -> None:
    with pytest.raises(SpecError, match=says) as caught:
        cleancache.connect(**arguments)
    assert "\n" not in str(caught.value)


def test_register_and_unregister_by_name(caplog: pytest.LogCaptureFixture) -> None:
    pool = cleancache.connect("mine:1G")
    assert "no back end 'mine' yet for 'mine:1G'; known: zcache" in caplog.text
    handle = cleancache.Handle(pool.id, OBJECT, 0)
    assert pool.put(handle, b"a") is False

    cleancache.register("mine", Makes())
    assert pool.put(handle, b"a") is True
    cleancache.unregister("mine")
    assert pool.get(handle) is None


def test_open_reads_a_file_through_the_cache(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"clean bytes")
    with cleancache.open(f"file://{path}", stack="zcache:pressure=no:8M") as file:
        assert file.read() == b"clean bytes"


def test_all_public_names_are_there() -> None:
    assert all(getattr(cleancache, name) is not None for name in cleancache.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'purge'"):
        cleancache.purge  # noqa: B018 - the access is the test


def test_import_is_cheap_and_brings_no_fsspec() -> None:
    """What makes it cheap; how long it takes is measured in tests/project."""
    code = (
        "import sys, cleancache;"
        "print([name for name in ('fsspec', 'lz4', 'xxhash', 'click', 'asyncio', 'importlib.metadata')"
        " if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert said.strip() == "[]"
