"""Where each option of a mount comes from: one name for one option in every place, one order, one parser.

argument > `CLEANCACHE_*` > $XDG_CONFIG_HOME/cleancache/config.toml > /etc/cleancache/conf.d/*.toml (last name wins) >
/etc/cleancache/config.toml > default. Among files a `[[source]]` whose `match` is a prefix of the URL beats plain
values (the longest match wins), because it says more. A file never switches the environment off. Unknown names are
errors with the nearest known name: an option that is silently ignored is the worst kind.

Files are read when something is opened, never at import. Nothing here knows a kind of tier but for the default stack.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from cleancache.errors import SpecError
from cleancache.handle import shared_pool
from cleancache.spec import (
    did_you_mean,
    parse_bool,
    parse_duration,
    parse_limit,
    parse_size,
    parse_stack,
    printable_text,
)

ETC = Path("/etc/cleancache")
PREFIX = "CLEANCACHE_"
PAGE_SIZES = (4096, 1 << 20)
LEASES = ("auto", "require", "off")


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of one mount or file system, with every value parsed.

    Units: *max_stale* seconds; *page_size* and *readahead* bytes; *limit* a size or share as text, for a zcache that
    names none.
    """

    stack: str = "zcache"
    pool: str | None = None
    max_stale: float = 0.0
    immutable: bool = False
    page_size: int = 65536
    readahead: int = 4 << 20
    limit: str = "256M"
    lease: str = "auto"


@dataclass(slots=True)
class Config:
    """What environment and files say: values with their origin, those for prefixes, stacks, options of sources."""

    environment: dict[str, tuple[Any, str]] = field(default_factory=dict)
    plain: dict[str, tuple[Any, str]] = field(default_factory=dict)
    prefixes: list[tuple[str, dict[str, Any], str]] = field(default_factory=list)
    stacks: dict[str, tuple[str, str]] = field(default_factory=dict)
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)

    def explain(self, url: str | None = None, **arguments: Any) -> list[tuple[str, Any, str]]:
        """Name, value and origin of every option, as `cleancache config show --origin` prints them."""
        return [
            (name, printable_text(parse_stack(value)) if name == "stack" else value, origin)
            for name, (value, origin) in self._resolve(url, arguments).items()
        ]

    def resolve(self, url: str | None = None, **arguments: Any) -> Settings:
        """The settings for *url*; arguments that are None are not given.

        Raises: SpecError, for a name or value that is not allowed.
        """
        return Settings(**{name: value for name, (value, _) in self._resolve(url, arguments).items()})

    def source_options(self, protocol: str, url: str | None = None) -> dict[str, Any]:
        """The options of `[source.PROTOCOL]` for the file system behind us."""
        options = dict(self.sources.get(protocol, {}))
        for _, values, _ in reversed(self._matching(url)):
            options.update(values.get("source", {}).get(protocol, {}))
        return options

    def _matching(self, url: str | None) -> list[tuple[str, dict[str, Any], str]]:
        """The entries for *url*, longest match first; of equal ones the file that takes precedence."""
        bare = (url or "").removeprefix("cleancache::")
        found = [entry for entry in self.prefixes if url is not None and bare.startswith(entry[0])]
        return sorted(found, key=lambda entry: -len(entry[0]))

    def _resolve(self, url: str | None, arguments: Mapping[str, Any]) -> dict[str, tuple[Any, str]]:
        for name in arguments:
            if name not in PARSERS:
                raise SpecError(f"{name!r} is no option of cleancache{_nearest(name, PARSERS)}")
        found = {f.name: (f.default, "default") for f in fields(Settings)}
        found |= self.plain
        for match, values, origin in reversed(self._matching(url)):
            label = f"{origin}: [[source]] match = {match!r}"
            found |= {name: (value, label) for name, value in values.items() if name in PARSERS}
        found |= self.environment
        found |= {
            name: (_parse(name, value, "argument"), "argument")
            for name, value in arguments.items()
            if value is not None
        }
        text, origin = found["stack"]
        if text in self.stacks:
            value, where = self.stacks[text]
            found["stack"] = (value, f"{origin}, named in {where}")
        _parse_stack(found["stack"][0])
        return found


def _parse_stack(text: Any) -> str:
    parse_stack(text)
    return str(text).strip()


def _parse_pool(value: Any) -> str:
    shared_pool(value)
    return str(value)


def _parse_page_size(value: Any) -> int:
    size = parse_size(value)
    if not PAGE_SIZES[0] <= size <= PAGE_SIZES[1] or size & (size - 1):
        raise SpecError(f"a page has 4 KiB to 1 MiB, a power of two, not {value!r}; 64K suits most sources")
    return size


def _parse_limit(value: Any) -> str:
    parse_limit(value)
    return str(value).strip()


def _parse_lease(value: Any) -> str:
    if value not in LEASES:
        raise SpecError(f"{value!r} is no lease: write auto, require or off")
    return str(value)


def _parse_name(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise SpecError(f"a stack is text such as 'zcache:256M', or a name of [stacks]; got {value!r}")
    return value.strip()


PARSERS: dict[str, Callable[[Any], Any]] = {
    "stack": _parse_name,  # it may be a name; what it stands for is parsed when it is resolved
    "pool": _parse_pool,
    "max_stale": parse_duration,
    "immutable": parse_bool,
    "page_size": _parse_page_size,
    "readahead": parse_size,
    "limit": _parse_limit,
    "lease": _parse_lease,
}


def _parse(name: str, value: Any, origin: str) -> Any:
    try:
        return PARSERS[name](value)
    except ValueError as fault:
        raise SpecError(f"{origin}: {name}: {fault}") from None


def _nearest(name: str, known: Iterable[str]) -> str:
    known = list(known)
    near = did_you_mean(name, known)
    return f"; did you mean {near!r}?" if near else f"; known: {', '.join(known)}"


def read(environ: Mapping[str, str] | None = None, etc: Path = ETC) -> Config:
    """Read environment and files. Raises: SpecError, naming file and place."""
    environ = os.environ if environ is None else environ
    config = Config()
    for name in environ:
        if not name.startswith(PREFIX):
            continue
        option = name.removeprefix(PREFIX).lower()
        if option in PARSERS:
            if environ[name]:
                config.environment[option] = (_parse(option, environ[name], name), name)
        elif near := did_you_mean(option, PARSERS):  # others, as those of our tests, are not ours to judge
            raise SpecError(
                f"the environment has {name}, which is no option of cleancache; did you mean {PREFIX}{near.upper()}?"
            )
    for path in files(environ, etc):
        _add(config, path)
    return config


def files(environ: Mapping[str, str], etc: Path = ETC) -> list[Path]:
    """The configuration files that exist, the one that takes precedence first."""
    home = environ.get("XDG_CONFIG_HOME", "")
    user = Path(home) if os.path.isabs(home) else Path(os.path.expanduser("~/.config"))
    found = [user / "cleancache" / "config.toml", *sorted((etc / "conf.d").glob("*.toml"), reverse=True)]
    return [path for path in [*found, etc / "config.toml"] if path.is_file()]


def _add(config: Config, path: Path) -> None:
    """Add the file *path*; what a file before it said stays."""
    import tomllib  # 5 ms that a program without files should not pay

    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as fault:
        raise SpecError(f"{path} is no TOML: {fault}") from None
    except OSError as fault:
        raise SpecError(f"{path} cannot be read: {fault.strerror}; make it readable or remove it") from None
    origin = str(path)
    for name, value in table.items():
        if name == "stacks":
            for alias, text in _table(value, origin, "stacks").items():
                try:
                    config.stacks.setdefault(alias, (_parse_stack(text), origin))
                except SpecError as fault:
                    raise SpecError(f"{origin}: [stacks] {alias}: {fault}") from None
        elif name == "source":
            _add_sources(config, value, origin)
        elif name in PARSERS:
            config.plain.setdefault(name, (_parse(name, value, origin), origin))
        else:
            raise SpecError(f"{origin}: {name!r} is no option{_nearest(name, [*PARSERS, 'stacks', 'source'])}")


def _add_sources(config: Config, value: Any, origin: str) -> None:
    """`[source.s3]`: options of a file system; `[[source]]`: prefixes, with settings and such tables of their own."""
    if isinstance(value, dict):
        for protocol, options in value.items():
            table = _table(options, origin, f"source.{protocol}")
            config.sources[protocol] = table | config.sources.get(protocol, {})
        return
    if not isinstance(value, list):
        raise SpecError(f'{origin}: source is {value!r}; write [[source]] with match = "PREFIX", or [source.s3]')
    for entry in value:
        match = _table(entry, origin, "[source]").get("match")
        if not isinstance(match, str) or not match:
            raise SpecError(f'{origin}: a [[source]] has no match; write match = "https://data.example.org/"')
        values: dict[str, Any] = {"source": {}}
        for name, item in entry.items():
            if name == "match":
                continue
            if isinstance(item, dict):
                values["source"][name] = item
            elif name in PARSERS:
                values[name] = _parse(name, item, f"{origin}: [[source]] {match}")
            else:
                raise SpecError(
                    f"{origin}: [[source]] {match}: {name!r} is no option{_nearest(name, ('match', *PARSERS))}"
                )
        config.prefixes.append((match, values, origin))


def _table(value: Any, origin: str, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SpecError(f"{origin}: [{name}] is a table of names and values, not {value!r}")
    return value


def resolve(url: str | None = None, **arguments: Any) -> Settings:
    """The settings for *url*: arguments, environment, files, defaults.

    >>> resolve(max_stale="30s").max_stale
    30.0
    """
    return read().resolve(url, **arguments)


def explain(url: str | None = None, **arguments: Any) -> list[tuple[str, Any, str]]:
    """Name, value and origin of every option."""
    return read().explain(url, **arguments)


def source_options(protocol: str, url: str | None = None) -> dict[str, Any]:
    """The options that the configuration has for the file system *protocol* behind us."""
    return read().source_options(protocol, url)
