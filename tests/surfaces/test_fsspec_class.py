"""The class that fsspec finds: names, options, lists, instances."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec import AbstractFileSystem
from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.implementations.sftp import SFTPFileSystem

from cleancache import SpecError
from cleancache.frontends import fsspec as front
from cleancache.frontends.fsspec import CleancacheFileSystem
from tests.surfaces.servers import clean_start

__all__ = ["clean_start"]
STACK = "zcache:16M"


def over(protocol: str = "memory", **options: Any) -> CleancacheFileSystem:
    fs = fsspec.filesystem("cleancache", target_protocol=protocol, stack=STACK, **options)
    assert isinstance(fs, CleancacheFileSystem)
    return fs


def test_each_method_of_fsspec_is_on_exactly_one_list() -> None:
    public = {name for base in (AbstractFileSystem, AsyncFileSystem) for name in dir(base) if not name.startswith("_")}
    lists = [front.CACHED, front.FLUSHED, front.DELEGATED, front.MACHINERY]

    assert public - frozenset().union(*lists) == set()
    assert sum(map(len, lists)) == len(frozenset().union(*lists))


def test_each_async_method_of_fsspec_has_our_twin_or_is_made_of_ours() -> None:
    made_of_ours = {"_cat", "_get", "_process_limits", "_pid", "_put", "_copy"}  # gather over the twins below
    inherited = {
        name
        for name in dir(AsyncFileSystem)
        if name.startswith("_")
        and not name.startswith("__")
        and callable(getattr(AsyncFileSystem, name, None))
        and getattr(AsyncFileSystem, name) is not getattr(AbstractFileSystem, name, None)
        and getattr(CleancacheFileSystem, name) is getattr(AsyncFileSystem, name)
    }

    assert inherited - made_of_ours == set()


def test_the_class_strips_our_prefix_and_the_instance_the_targets_too() -> None:
    assert CleancacheFileSystem._strip_protocol("cleancache://") == ""
    assert CleancacheFileSystem._strip_protocol("cleancache::s3://b/x") == "s3://b/x"

    fs = over("memory")

    assert fs._strip_protocol("cleancache::memory://a/b/") == "/a/b"
    assert fs._strip_protocol("cleancache://a/b") == "/a/b"
    assert fs._strip_protocol(["memory://a", "cleancache::memory://b"]) == ["/a", "/b"]
    assert fs._parent("cleancache::memory://a/b") == "/a"
    assert fs.unstrip_protocol("/a/b") == "cleancache::memory:///a/b"
    assert fs._strip_protocol(fs.unstrip_protocol("/a/b")) == "/a/b"
    assert (fs.sep, fs.root_marker) == ("/", fs.fs.root_marker)


def test_the_id_is_the_targets_with_our_prefix() -> None:
    assert over("file").fsid == "cleancache::local"


def test_exactly_one_of_fs_and_target_protocol_is_needed() -> None:
    with pytest.raises(ValueError, match="exactly one"):
        fsspec.filesystem("cleancache")
    with pytest.raises(ValueError, match="exactly one"):
        fsspec.filesystem("cleancache", fs=MemoryFileSystem(), target_protocol="memory")


def test_what_is_not_ours_goes_to_the_target() -> None:
    fs, _ = fsspec.url_to_fs("cleancache::file:///tmp/x", stack=STACK, use_listings_cache=False, auto_mkdir=False)

    assert fs.fs.storage_options == {"use_listings_cache": False, "auto_mkdir": False}


def test_options_of_the_targets_own_protocol_win() -> None:
    fs, _ = fsspec.url_to_fs("cleancache::file:///tmp/x", cleancache={"stack": STACK}, file={"auto_mkdir": False})

    assert fs.fs.storage_options["auto_mkdir"] is False


@pytest.mark.parametrize(("word", "near"), [("max_stael", "max_stale"), ("pagesize", "page_size"), ("limits", "limit")])
def test_a_near_miss_is_an_error_and_never_forwarded(word: str, near: str) -> None:
    with pytest.raises(SpecError, match=f"did you mean '{near}'"):
        over("memory", **{word: "1s"})


def test_a_near_miss_that_the_target_names_itself_is_the_targets() -> None:
    class Limits(MemoryFileSystem):
        def __init__(self, limits: int = 0, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.limits = limits

    fsspec.register_implementation("limits", Limits, clobber=True)

    assert over("limits", limits=7).fs.limits == 7


@pytest.mark.parametrize(
    "mistake", [{"max_stale": "soon"}, {"page_size": 100}, {"stack": "zcache:a lot"}, {"pool": "mine"}, {"lease": "no"}]
)
def test_a_bad_value_is_one_clear_error_at_once(mistake: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        fsspec.filesystem("cleancache", target_protocol="memory", **mistake)


def test_peers_words_are_understood_with_one_warning() -> None:
    with pytest.warns(UserWarning, match="cache_storage") as caught:
        fs = over("memory", expiry_time=60, check_files=True, cache_storage="/nowhere", same_names=True, cache_check=9)

    assert len(caught) == 1
    assert fs._settings(None).max_stale == 60
    assert fs.fs.storage_options == {}


def test_fsspecs_environment_and_configuration_are_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    conf: dict[str, Any] = {}
    fsspec.config.set_conf_env(conf, {"FSSPEC_CLEANCACHE_MAX_STALE": "30s", "FSSPEC_CLEANCACHE": '{"stack":"none"}'})
    monkeypatch.setitem(fsspec.config.conf, "cleancache", conf["cleancache"])

    fs = fsspec.filesystem("cleancache", target_protocol="memory")

    assert (fs._settings(None).max_stale, fs._settings(None).stack) == (30.0, "none")


def test_our_environment_and_files_by_prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cleancache").mkdir()
    (tmp_path / "cleancache" / "config.toml").write_text(
        '[[source]]\nmatch = "memory:///steady/"\nimmutable = true\n'
        '[[source]]\nmatch = "memory://"\n[source.memory]\nlisting = 1\n'
    )
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("CLEANCACHE_MAX_STALE", "5s")

    fs = over("memory")

    assert fs.fs.storage_options == {"listing": 1}
    assert fs._settings("/steady/a").immutable
    assert not fs._settings("/other/a").immutable
    assert fs._settings("/other/a").max_stale == 5.0


def test_every_file_of_a_target_is_one_instance() -> None:
    first, _ = fsspec.url_to_fs("cleancache::memory://a", stack=STACK)
    second, _ = fsspec.url_to_fs("cleancache::memory://b", stack=STACK)

    assert first is second


def test_an_instance_survives_pickle_json_and_dask() -> None:
    fs = over("memory", max_stale="3s")

    for twin in (
        pickle.loads(pickle.dumps(fs)),
        AbstractFileSystem.from_json(fs.to_json()),
        AbstractFileSystem.from_dict(fs.to_dict()),
    ):
        assert twin == fs
        assert hash(twin) == hash(fs)
    assert over("memory", max_stale="4s") != fs
    assert json.loads(fs.to_json())["max_stale"] == "3s"


def test_the_target_is_in_sync_mode_whatever_we_are() -> None:
    pytest.importorskip("aiohttp")

    fs = fsspec.filesystem("cleancache", target_protocol="http", asynchronous=True, stack=STACK)
    given = fsspec.filesystem("cleancache", fs=fsspec.filesystem("http", asynchronous=True), stack=STACK)

    assert fs.asynchronous
    assert not fs.fs.asynchronous
    assert not given.fs.asynchronous
    twin = AbstractFileSystem.from_json(json.dumps({**json.loads(over("http").to_json()), "asynchronous": True}))
    assert twin.asynchronous
    assert not twin.fs.asynchronous


def test_a_target_that_is_an_instance_is_used_as_it_is() -> None:
    target = MemoryFileSystem()

    fs = fsspec.filesystem("cleancache", fs=target, stack=STACK)

    assert fs.fs is target
    assert pickle.loads(pickle.dumps(fs)).fs == target
    assert AbstractFileSystem.from_json(fs.to_json()).fs == target


def test_what_the_base_does_not_know_is_the_targets() -> None:
    fs = over("file")

    assert not fs.islink("/")
    assert not fs.local_file
    with pytest.raises(AttributeError):
        fs.no_such_method  # noqa: B018 - the look-up is the test
    with pytest.raises(AttributeError):
        fs._no_such_method  # noqa: B018 - the look-up is the test


def test_targets_with_other_credentials_share_no_pool_P12() -> None:
    one = over("http", client_kwargs={"headers": {"Authorization": "one"}})
    two = over("http", client_kwargs={"headers": {"Authorization": "two"}})

    assert one.reader("http://h/x").pool.id != two.reader("http://h/x").pool.id


def test_equal_targets_and_settings_share_one_reader() -> None:
    one, two = over("file"), over("file", skip_instance_cache=True)

    assert one is not two
    assert one.reader("/x") is two.reader("/x")
    assert over("file", max_stale=9).reader("/x") is not one.reader("/x")
    assert over("file", max_stale=9).reader("/x").pool is one.reader("/x").pool


def test_importing_the_package_imports_no_fsspec() -> None:
    code = "import sys, cleancache; print([m for m in ('fsspec', 'lz4', 'numpy') if m in sys.modules])"

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_weak_target_is_known_by_its_class_alone() -> None:
    assert "sftp" in SFTPFileSystem.protocol  # the row of integration.md that `source` goes by
