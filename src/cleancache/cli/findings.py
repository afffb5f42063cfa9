"""What `check` looks at, one small function a subject; each finding that is bad says what to do about it.

Bad needs a person: a configuration that does not parse, a kind nobody registered or whose import fails, a limit
beyond the memory allowed, a lower tier smaller than the one above it (it only churns), a source without a usable
version. Absent PSI is a note: memory is looked at once a second all the same.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Literal

from cleancache.cli.access import Access
from cleancache.cli.say import hide, sentence
from cleancache.errors import SpecError
from cleancache.spec import Share, parse_limit, parse_stack, printable_text, size_text

if TYPE_CHECKING:
    from cleancache.config import Settings

GROUP = "cleancache.backends"
EXTRAS = ("ramster", "zstd", "s3", "gcs", "azure", "http")
REMEDIES = {
    "none": "say --immutable if nothing changes under this name (in a file: [[source]] match = …, immutable = true)",
    "weak": "say --max-stale 30s if a version may be that old, or --immutable (in a file: [[source]] match = …)",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    about: str
    verdict: Literal["ok", "note", "bad"]
    text: str
    do: str = ""


def findings(access: Access, url: str | None) -> Iterator[Finding]:
    """All findings, the machine's first; without a configuration that parses there is nothing else to find."""
    from cleancache import config

    try:
        settings = config.resolve(url, **access.flags.settings())
        tiers = parse_stack(settings.stack)
    except SpecError as mistake:
        yield Finding("configuration", "bad", str(mistake), "cleancache config show --origin names the place")
        return
    yield Finding("configuration", "ok", f"stack {printable_text(tiers)}, page size {size_text(settings.page_size)}")
    yield from back_ends([tier.kind for tier in tiers])
    yield from sizes([(tier.printable, tier.target) for tier in tiers])
    yield from memory(access, settings)
    if url is not None:
        yield from source(access, url)


def back_ends(kinds: list[str]) -> Iterator[Finding]:
    """Each kind of the stack is registered, and each entry point can be imported."""
    from cleancache import registry

    for entry in metadata.entry_points(group=GROUP):
        try:
            entry.load()
        except Exception as error:  # a stranger's module may raise anything at import
            extra = f"pip install 'cleancache[{entry.name}]'" if entry.name in EXTRAS else f"repair {entry.value}"
            yield Finding(
                "back end", "bad" if entry.name in kinds else "note", f"{entry.name}: {sentence(error)}", extra
            )
    known = registry.default.known()
    for kind in kinds:
        if kind in known:
            yield Finding("back end", "ok", kind)
        else:
            remedy = f"pip install 'cleancache[{kind}]'" if kind in EXTRAS else "name a known one by --stack"
            yield Finding("back end", "bad", f"no back end '{kind}' is registered; known: {', '.join(known)}", remedy)


def sizes(tiers: list[tuple[str, str | None]]) -> Iterator[Finding]:
    """A tier has room for more than the one above it."""
    above: tuple[str, int] | None = None
    for text, target in tiers:
        size = _bytes(target)
        if above is not None and size is not None and size < above[1]:
            yield Finding(
                "stack", "bad", f"{text} is smaller than {above[0]} above it: it only churns", "make it larger"
            )
        above = above if size is None else (text, size)


def _bytes(target: str | None) -> int | None:
    try:
        limit = parse_limit(target) if target else None
    except SpecError:  # a target that is a place and no size
        return None
    return None if isinstance(limit, Share) else limit


def memory(access: Access, settings: Settings) -> Iterator[Finding]:
    """The limit against the memory this process may use, and whether pressure can be felt."""
    from cleancache.pressure import memory_allowed, read_facts

    allowed, facts = memory_allowed(), read_facts()
    stats = access.pool(settings).stats()
    ceiling = stats.ceiling_bytes or stats.limit_bytes
    if ceiling is not None:
        text = f"limit {size_text(ceiling)} of {size_text(allowed)} that this process may use"
        if ceiling > allowed:
            yield Finding("memory", "bad", text, f"--limit {size_text(allowed // 4).replace(' ', '')} or less")
        elif ceiling > allowed // 2:
            yield Finding("memory", "note", f"{text}: more than half", "leave room for the program that reads")
        else:
            yield Finding("memory", "ok", text)
    if facts.groups:
        least = min(facts.groups, key=lambda group: group.room_bytes)
        yield Finding("cgroup", "ok", f"{size_text(max(0, least.room_bytes))} of {size_text(least.limit_bytes)} left")
    if facts.stall_percent is None:
        yield Finding(
            "pressure", "note", "the kernel has no PSI; memory is looked at once a second instead", "boot with psi=1"
        )
    else:
        yield Finding("pressure", "ok", f"{facts.stall_percent:.1f} % of the last 10 s stalled on memory")


def source(access: Access, url: str) -> Iterator[Finding]:
    """Whether the source answers, what its versions are worth, and whether its pages will be kept."""
    try:
        place = access.place(url)
        began = time.monotonic()
        opened = place.reader.open(place.name)
        took_s = time.monotonic() - began
    except (SpecError, KeyboardInterrupt):
        raise
    except Exception as error:  # whatever this source raises is the finding
        yield Finding(
            "source", "bad", f"{hide(url)}: {sentence(error)}", "check the name, the credentials and -o options"
        )
        return
    size = "unknown size" if opened.size is None else size_text(opened.size)
    yield Finding("source", "ok", f"{hide(url)}: {size}, its version asked in {took_s * 1000:.0f} ms")
    version = opened.version
    if opened.is_cached:
        yield Finding("version", "ok", f"{version.strength}: {version.why or opened.why}; its pages are kept")
    else:
        yield Finding(
            "version",
            "bad",
            f"{version.strength}: {opened.why or version.why}; not cached",
            REMEDIES.get(version.strength, ""),
        )
