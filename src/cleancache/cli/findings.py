"""What `check` looks at, one small function a subject; each finding that is bad says what to do about it.

Bad needs a person: a configuration that does not parse, a kind nobody registered or whose import fails, a limit
beyond the memory allowed, a lower tier smaller than the one above it (it only churns), a source without a usable
version. Absent PSI is a note: memory is looked at once a second all the same.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Literal

from cleancache.cli.access import Access
from cleancache.cli.say import hide, sentence
from cleancache.errors import SpecError
from cleancache.spec import Share, Tier, did_you_mean, parse_limit, parse_stack, printable_text, size_text, with_limit

if TYPE_CHECKING:
    from cleancache.config import Settings

REMEDIES = {
    "none": "say --immutable if nothing changes under this name (in a file: [[source]] match = …, immutable = true)",
    "weak": "say --max-stale 30s if a version may be that old, or --immutable (in a file: [[source]] match = …)",
}
SIZELESS = "have the server tell the length (Content-Length, no Content-Encoding); no option of ours replaces that"


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
        tiers = with_limit(parse_stack(settings.stack), settings.limit)
    except SpecError as mistake:
        yield Finding("configuration", "bad", str(mistake), "correct it there; nothing is read before that")
        return
    yield Finding("configuration", "ok", f"stack {printable_text(tiers)}, page size {size_text(settings.page_size)}")
    found = [*back_ends([tier.kind for tier in tiers]), *sizes(tiers)]
    yield from found
    if not tiers:
        yield Finding("stack", "note", "no tier: every read goes to the source", "name one by --stack, as zcache:1G")
    elif len(tiers) > 1 or all(each.verdict != "bad" for each in found):
        yield from limit(access, settings)
    yield from memory()
    if url is not None:
        yield from source(access, url)


def back_ends(kinds: list[str]) -> Iterator[Finding]:
    """Each kind of the stack is registered, and each entry point can be imported."""
    from cleancache import registry

    broken = set()
    for entry in metadata.entry_points(group=registry.GROUP):
        try:
            entry.load()
        except Exception as error:  # a stranger's module may raise anything at import
            broken.add(entry.name)
            extra = registry.EXTRAS.get(entry.name)
            remedy = f"pip install 'cleancache[{extra}]'" if extra else f"repair {entry.value}"
            yield Finding(
                "back end", "bad" if entry.name in kinds else "note", f"{entry.name}: {sentence(error)}", remedy
            )
    known = registry.default.known()
    for kind in kinds:
        if kind not in known:
            near = did_you_mean(kind, known)
            remedy = f"did you mean --stack {near}?" if near else "name a known one by --stack"
            if extra := registry.EXTRAS.get(kind):
                remedy = f"pip install 'cleancache[{extra}]'"
            yield Finding("back end", "bad", f"nobody registered '{kind}'; known: {', '.join(known)}", remedy)
        elif kind not in broken:
            yield Finding("back end", "ok", kind)


def sizes(tiers: Sequence[Tier]) -> Iterator[Finding]:
    """No tier asks for more than there is, and each has room for more than the one above it."""
    from cleancache.memory import memory_allowed

    allowed = memory_allowed()
    above: tuple[str, int] | None = None
    for tier in tiers:
        size = _bytes(tier.target)
        if size is None:
            continue
        if size > allowed:
            text = f"{tier.printable} is more than the {size_text(allowed)} that this process may use"
            yield Finding("stack", "bad", text, f"--limit {size_text(allowed // 4).replace(' ', '')} or less")
        if above is not None and size < above[1]:
            text = f"{tier.printable} is smaller than {above[0]} above it: it only churns"
            yield Finding("stack", "bad", text, "make it larger")
        above = (tier.printable, size)


def _bytes(target: str | None) -> int | None:
    try:
        size = parse_limit(target) if target else None
    except SpecError:  # a target that is a place and no size
        return None
    return None if isinstance(size, Share) else size


def limit(access: Access, settings: Settings) -> Iterator[Finding]:
    """The stack can be made, and leaves room for the program that reads."""
    from cleancache.memory import memory_allowed

    try:
        access.pool(settings)
    except SpecError as mistake:
        yield Finding("stack", "bad", str(mistake), "name another one by --stack")
        return
    held, allowed = access.held(), memory_allowed()
    ceiling = held.ceiling_bytes
    if ceiling is None:
        return
    text = f"{size_text(ceiling)} of the {size_text(allowed)} that this process may use"
    if held.limit_bytes is not None and held.limit_bytes < ceiling:
        text += f"; {size_text(held.limit_bytes)} now, under pressure"
    if ceiling > allowed // 2:
        yield Finding("limit", "note", f"{text}: more than half", "leave room for the program that reads")
    else:
        yield Finding("limit", "ok", text)


def memory() -> Iterator[Finding]:
    """What is left in the control groups, and whether pressure can be felt."""
    from cleancache.memory import read_facts

    facts = read_facts()
    if facts.available_bytes is not None:
        yield Finding("memory", "ok", f"{size_text(facts.available_bytes)} available on this host")
    if facts.groups:
        least = min(facts.groups, key=lambda group: group.room_bytes)
        text = f"{size_text(max(0, least.room_bytes))} of {size_text(least.limit_bytes)} left"
        yield Finding("cgroup", "ok", text)
    if facts.stall_percent is None:
        text = "the kernel has no PSI; memory is looked at once a second instead"
        yield Finding("pressure", "note", text, "boot with psi=1")
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
    why = opened.why or version.why
    said = f"{version.strength}{f': {why}' if why else ''}"
    if opened.is_cached and not parse_stack(place.settings.stack):
        yield Finding("version", "note", f"{said}; without a tier none of its pages is kept")
    elif opened.is_cached:
        yield Finding("version", "ok", f"{said}; its pages are kept")
    elif version.is_barred:
        yield Finding("version", "bad", f"{said}; never cached", "read it without cleancache")
    else:
        remedy = SIZELESS if opened.size is None else REMEDIES.get(version.strength, "")
        yield Finding("version", "bad", f"{said}; not cached", remedy)
