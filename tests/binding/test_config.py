"""Options: one name in every place, one order, and an error for each name or value that is not known."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from cleancache import config
from cleancache.config import PARSERS, Config, Settings, read
from cleancache.errors import SpecError


class Files:
    """A home and an /etc of the test's own."""

    def __init__(self, root: Path) -> None:
        self.home, self.etc = root / "home", root / "etc"
        self.environ = {"XDG_CONFIG_HOME": str(self.home)}

    def write(self, name: str, text: str) -> Path:
        path = (self.home / "cleancache" / "config.toml") if name == "user" else self.etc / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def read(self, **environ: str) -> Config:
        return read(self.environ | {f"CLEANCACHE_{name}": value for name, value in environ.items()}, self.etc)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_without_anything_the_defaults_hold(files: Files) -> None:
    assert files.read().resolve() == Settings(
        stack="zcache",
        pool=None,
        max_stale=0.0,
        immutable=False,
        page_size=65536,
        readahead=4 << 20,
        limit="256M",
        lease="auto",
    )
    assert {f.name for f in fields(Settings)} == set(PARSERS)


def test_each_place_beats_the_next_one(files: Files) -> None:
    def value(**arguments: str) -> tuple[float, str]:
        rows = {name: (value, origin) for name, value, origin in files.read(**environ).explain(**arguments)}
        return rows["max_stale"]

    environ: dict[str, str] = {}
    assert value() == (0.0, "default")
    path = files.write("config.toml", "max_stale = 1")
    assert value() == (1.0, str(path))
    path = files.write("conf.d/10-a.toml", "max_stale = '2s'")
    assert value() == (2.0, str(path))
    path = files.write("conf.d/20-b.toml", "max_stale = 3.0")
    assert value() == (3.0, str(path)), "the last name wins"
    path = files.write("user", "max_stale = '4s'")
    assert value() == (4.0, str(path))
    environ["MAX_STALE"] = "5s"
    assert value() == (5.0, "CLEANCACHE_MAX_STALE")
    assert value(max_stale="6s") == (6.0, "argument")


def test_every_option_is_parsed_by_the_one_parser_wherever_it_stands(files: Files) -> None:
    want = Settings("zcache:1G", "6f1c2d3e-4a5b-4c6d-8e7f-a0b1c2d3e4f5", 300.0, True, 131072, 1 << 20, "25%", "off")
    texts = {
        "stack": "zcache:1G",
        "pool": "6f1c2d3e-4a5b-4c6d-8e7f-a0b1c2d3e4f5",
        "max_stale": "5m",
        "immutable": "yes",
        "page_size": "128K",
        "readahead": "1M",
        "limit": "25%",
        "lease": "off",
    }
    assert files.read().resolve(**texts) == want
    assert files.read(**{name.upper(): text for name, text in texts.items()}).resolve() == want
    files.write("user", "\n".join(f'{name} = "{text}"' for name, text in texts.items()))
    assert files.read().resolve() == want
    assert files.read().resolve(max_stale=None) == want, "an argument of None is not given"


def test_a_stack_may_be_a_name(files: Files) -> None:
    path = files.write("user", 'stack = "big"\n[stacks]\nbig = "zcache:codec=zstd:4G"\nzcache = "zcache:1G"\n')

    assert files.read().resolve().stack == "zcache:codec=zstd:4G"
    assert files.read().resolve(stack="zcache").stack == "zcache:1G"
    assert files.read().resolve(stack="zcache:2G").stack == "zcache:2G"
    rows = {name: origin for name, _, origin in files.read().explain()}
    assert rows["stack"] == f"{path}, named in {path}"


def test_the_longest_prefix_wins_and_says_more_than_plain_values(files: Files) -> None:
    files.write(
        "user",
        """
        max_stale = 1
        [[source]]
        match = "https://data.example.org/"
        immutable = true
        max_stale = 2
        [[source]]
        match = "https://data.example.org/live/"
        immutable = false
        """,
    )

    def at(url: str | None) -> tuple[bool, float]:
        settings = files.read().resolve(url)
        return settings.immutable, settings.max_stale

    assert at(None) == at("https://other.example.org/") == (False, 1.0)
    assert at("https://data.example.org/a") == (True, 2.0)
    assert at("cleancache::https://data.example.org/a") == (True, 2.0)
    assert at("https://data.example.org/live/a") == (False, 2.0)
    assert files.read(IMMUTABLE="no").resolve("https://data.example.org/a").immutable is False
    origin = {name: origin for name, _, origin in files.read().explain("https://data.example.org/a")}["immutable"]
    assert origin.endswith("config.toml: [[source]] match = 'https://data.example.org/'")


def test_of_equal_prefixes_the_file_that_takes_precedence_wins(files: Files) -> None:
    files.write("config.toml", '[[source]]\nmatch = "s3://b/"\nmax_stale = 1\nimmutable = true\n')
    files.write("user", '[[source]]\nmatch = "s3://b/"\nmax_stale = 2\n')

    settings = files.read().resolve("s3://b/x")
    assert (settings.max_stale, settings.immutable) == (2.0, True)


def test_options_of_the_file_system_behind_us(files: Files) -> None:
    files.write("config.toml", '[source.s3]\nendpoint_url = "http://a"\nanon = true\n')
    files.write("conf.d/1.toml", '[source.s3]\nendpoint_url = "http://b"\n')
    files.write("user", '[[source]]\nmatch = "s3://mine/"\n[source.s3]\nanon = false\n')

    assert files.read().source_options("s3") == {"endpoint_url": "http://b", "anon": True}
    assert files.read().source_options("s3", "s3://mine/x") == {"endpoint_url": "http://b", "anon": False}
    assert files.read().source_options("http") == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("max_stael = 1", r"config.toml: 'max_stael' is no option; did you mean 'max_stale'\?"),
        ("qqq = 1", "'qqq' is no option; known: stack, pool"),
        ("max_stale = 'soon'", "config.toml: max_stale: 'soon' is no duration"),
        ("immutable = 'perhaps'", "neither yes nor no"),
        ("page_size = 5000", "a power of two"),
        ("page_size = '2M'", "4 KiB to 1 MiB"),
        ("pool = 'x'", "UUID"),
        ("lease = 'x'", "write auto, require or off"),
        ("stack = 5", "a stack is text"),
        ("max_stale =", "is no TOML"),
        ("stacks = 5", "is a table"),
        ("[stacks]\na = 'x y'", r"\[stacks\] a: "),
        ("source = 5", r"write \[\[source\]\]"),
        ("[source]\ns3 = 5", r"\[source.s3\] is a table"),
        ("[[source]]\nimmutable = true", "has no match"),
        ("[[source]]\nmatch = 's3://b'\nimutable = true", "did you mean 'immutable'"),
        ("[[source]]\nmatch = 's3://b'\nmax_stale = 'x'", r"\[\[source\]\] s3://b: max_stale: 'x' is no duration"),
    ],
)
def test_a_mistake_in_a_file_names_file_place_and_what_to_write(files: Files, text: str, says: str) -> None:
    files.write("user", text)
    with pytest.raises(SpecError, match=says) as caught:
        files.read()
    assert "\n" not in str(caught.value)
    assert "config.toml" in str(caught.value)


def test_a_mistake_in_an_argument_or_the_environment(files: Files) -> None:
    with pytest.raises(SpecError, match=r"'max_stael' is no option of cleancache; did you mean 'max_stale'\?"):
        files.read().resolve(max_stael=1)
    with pytest.raises(SpecError, match="argument: limit: 'x' is no size"):
        files.read().resolve(limit="x")
    with pytest.raises(SpecError, match="cannot stand in stack text"):
        files.read().resolve(stack="a b")
    with pytest.raises(SpecError, match=r"CLEANCACHE_MAX_STAEL.*did you mean CLEANCACHE_MAX_STALE"):
        files.read(MAX_STAEL="1")
    with pytest.raises(SpecError, match="CLEANCACHE_PAGE_SIZE: page_size: 'x'"):
        files.read(PAGE_SIZE="x")
    assert files.read(SOAK_S="5", STACK="").resolve() == Settings()


def test_a_file_that_may_not_be_read_is_an_error_at_start(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    path = files.write("user", "")

    def refuse(self: Path, encoding: str) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(SpecError, match=f"{path} cannot be read: Permission denied; make it readable"):
        files.read()


def test_P5_what_is_explained_has_no_credentials(files: Files) -> None:
    rows = {name: value for name, value, _ in files.read(STACK="ramster:password=x:redis://a:b@h").explain()}

    assert rows["stack"] == "ramster:password=***:redis://h"


def test_the_home_directory_is_that_of_the_account_when_no_variable_says_so(tmp_path: Path) -> None:
    assert config.files({"XDG_CONFIG_HOME": "relative"}, tmp_path) == config.files({}, tmp_path)
