"""`stats`, `check`, `config show`: what is, what is wrong, and where a setting comes from."""

from __future__ import annotations

from dataclasses import asdict

import click

from cleancache import __version__
from cleancache.cli.access import Access
from cleancache.cli.findings import Finding, findings
from cleancache.cli.options import Commands, Flags, common, reading
from cleancache.cli.say import Say, hide
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
    tier = printable_text(with_limit(parse_stack(settings.stack), settings.limit))
    if form == "prometheus":
        from cleancache import metrics

        click.echo(metrics.text({tier: counted}), nl=False)
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
    ]
    say.table(rows)


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
