"""`stats`, `check`, `config show`: what is, what is wrong, and where a setting comes from."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

import click

from cleancache import __version__
from cleancache.backend import Stats
from cleancache.cli.access import Access
from cleancache.cli.findings import Finding, findings
from cleancache.cli.options import Commands, Flags, common, reading
from cleancache.cli.say import Say, hide
from cleancache.frontends.control import ask_all
from cleancache.spec import parse_stack, printable_text, size_text, with_limit

WHERE_COUNTERS_ARE = (
    "a zcache lives in the process that reads, and so do its counters: ask there by "
    "cleancache.metrics.snapshot(), or register cleancache.metrics.Collector() for a scrape"
)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One document; the names are those of the counters.")
@click.option("--format", "form", type=click.Choice(["text", "json", "prometheus"]), default="text")
@reading
@common
@click.pass_obj
def stats(say: Say, as_json: bool, form: str, flags: Flags) -> None:
    """Show the stack, its limit, the memory and the pressure on it, as a process that starts now finds them."""
    from cleancache import config, registry
    from cleancache.memory import memory_allowed, read_facts

    settings = config.resolve(None, **flags.settings())
    facts = read_facts()
    with Access(flags) as access:
        access.pool(settings)
        counted = access.held()
    mounted = ask_all(verb="stats")
    tier = printable_text(with_limit(parse_stack(settings.stack), settings.limit))
    if form == "prometheus":
        from cleancache import metrics

        click.echo(metrics.text(_by_tier(tier, counted, mounted)), nl=False)
        say.note(WHERE_COUNTERS_ARE)
        return
    known = registry.default.known()
    if as_json or form == "json":
        say.json(
            {
                "version": __version__,
                "stack": tier,
                "known": list(known),
                "memory_allowed_bytes": memory_allowed(),
                "memory_available_bytes": facts.available_bytes,
                "stall_percent": facts.stall_percent,
                "mounts": mounted,
                "tiers": {tier: {name: value for name, value in asdict(counted).items() if value is not None}},
            }
        )
        return
    held, limit, ceiling = sum((counted.used_bytes or {}).values()), counted.limit_bytes, counted.ceiling_bytes
    stalled = "PSI absent" if facts.stall_percent is None else f"{facts.stall_percent:.1f} % of the last 10 s stalled"
    rows = [
        ("stack", tier),
        ("limit", "unknown" if limit is None else f"{size_text(limit)} of {size_text(ceiling or limit)} configured"),
        ("used", size_text(held)),
        ("kinds known", ", ".join(known)),
        ("memory", f"{size_text(memory_allowed())} allowed, {size_text(facts.available_bytes or 0)} available now"),
        ("pressure", stalled),
        ("counters", WHERE_COUNTERS_ARE),
        *(("mount", _mount_text(each)) for each in mounted),
    ]
    say.table(rows)


def _by_tier(tier: str, counted: Stats, mounted: list[dict[str, Any]]) -> dict[str, Stats]:
    """The figures of all mounts of this user, added up by the text of their tier; one scrape."""
    from cleancache.tally import added_up

    found = {tier: counted} if not mounted else {}
    for each in mounted:
        told: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in each["stats"].items()
        }
        known = {field.name for field in fields(Stats)}
        stats = Stats(**{name: value for name, value in told.items() if name in known and name != "verb_seconds"})
        name = str(each["stack"])
        found[name] = added_up(found[name], stats) if name in found else stats
    return found


def _mount_text(each: dict[str, Any]) -> str:
    """One line about one mount."""
    counted = each["stats"]
    held, limit = sum((counted.get("used_bytes") or {}).values()), counted.get("limit_bytes")
    room = f"{size_text(held)} of {size_text(limit)}" if limit else "no cache"
    read = counted.get("read_bytes") or {}
    given = sum(read.values())
    share = f", {100 * read.get('cache', 0) / given:.0f} % of {size_text(given)} from the cache" if given else ""
    return f"{each['source']} on {each['directory']} ({each['stack']}, pid {each['pid']}): {room}{share}"


@click.command()
@click.argument("url", required=False)
@click.option("--json", "as_json", is_flag=True, help="One document with all findings.")
@reading
@common
@click.pass_context
def check(context: click.Context, url: str | None, as_json: bool, flags: Flags) -> None:
    """Look for what a person has to put right: stack, memory, and how a URL's versions can be told apart."""
    say: Say = context.obj
    with Access(flags) as access:
        found = list(findings(access, url))
    if as_json:
        say.json({"ok": all(each.verdict != "bad" for each in found), "findings": [asdict(each) for each in found]})
    else:
        for each in found:
            _show(say, each)
    if any(each.verdict == "bad" for each in found):
        context.exit(1)


def _show(say: Say, finding: Finding) -> None:
    shade = {"ok": "green", "note": "yellow", "bad": "red"}[finding.verdict]
    if finding.verdict == "ok" and say.quiet:
        return
    say.out(f"{click.style(f'{finding.verdict:4}', fg=shade)}  {finding.about}: {hide(finding.text)}")
    if finding.do:
        say.out(f"      → {finding.do}")


@click.group(cls=Commands)
def config() -> None:
    """Settings: what holds, and where it was set."""


@config.command()
@click.argument("url", required=False)
@click.option("--origin", is_flag=True, help="Also where each value came from.")
@click.option("--json", "as_json", is_flag=True, help="One document.")
@reading
@common
@click.pass_obj
def show(say: Say, url: str | None, origin: bool, as_json: bool, flags: Flags) -> None:
    """Print each setting as it holds (for URL, if one is named)."""
    from cleancache import config as settings

    rows = [(str(name), value, str(source)) for name, value, source in settings.explain(url, **flags.settings())]
    if as_json:
        say.json({name: {"value": value, "origin": source} if origin else value for name, value, source in rows})
        return
    say.table([(name, _text(value), *([source] if origin else [])) for name, value, source in rows])


def _text(value: object) -> str:
    return "-" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
