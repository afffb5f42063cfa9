"""Options that several commands share; one name for one option everywhere (`docs/cli.md`)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from cleancache.cli.say import Say, colour
from cleancache.config import PARSERS, PREFIX
from cleancache.spec import did_you_mean

Command = TypeVar("Command", bound=Callable[..., object])
FLAGS = ("stack", "limit", "page_size", "max_stale", "immutable")  # settings that have an option of their own


class Commands(click.Group):
    """A group that answers an unknown name with the nearest known one (click does so from 8.5 only)."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click; the sentence is ours."""
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            near = did_you_mean(args[0], self.list_commands(ctx))
            known = f"did you mean '{near}'?" if near else f"known: {', '.join(self.list_commands(ctx))}"
            raise click.UsageError(f"no command '{args[0]}'; {known}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """As click, with whole sentences: its own end in dots after 45 characters."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, command.get_short_help_str(limit=1000)) for name, command in commands if command is not None]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _quiet(context: click.Context, _: click.Parameter, value: bool) -> None:
    context.ensure_object(Say).settle(quiet=value)


def _verbose(context: click.Context, _: click.Parameter, value: bool) -> None:
    context.ensure_object(Say).settle(verbose=value)


def _colour(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:  # the group's own answer holds unless the command was given one
        context.color = context.ensure_object(Say).color = colour(value)


def common(command: Command) -> Command:
    """Options that every command takes, before or after its name."""
    modes = click.Choice(["auto", "always", "never"])
    for option in (
        click.option("--color", type=modes, expose_value=False, callback=_colour, help="Colour in the output."),
        click.option("-v", "--verbose", is_flag=True, expose_value=False, callback=_verbose, help="Say more."),
        click.option("-q", "--quiet", is_flag=True, expose_value=False, callback=_quiet, help="Say only problems."),
    ):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class Flags:
    """What was said about the cache and the source; None means that the environment and the files decide."""

    stack: str | None
    limit: str | None
    page_size: str | None
    max_stale: str | None
    immutable: bool | None
    storage: tuple[tuple[str, Any], ...]

    def settings(self) -> dict[str, Any]:
        """Arguments of `config.resolve`: those that were given."""
        given = {name: getattr(self, name) for name in FLAGS}
        return {name: value for name, value in given.items() if value is not None}


def reading(command: Callable[..., object]) -> Callable[..., object]:
    """Options of every command that reads through the cache; the command gets them as one `flags`."""

    def gathered(*arguments: Any, option: tuple[str, ...], **rest: Any) -> object:
        own = {name: rest.pop(name) for name in FLAGS}
        return command(*arguments, flags=Flags(**own, storage=storage_options(option)), **rest)

    gathered.__doc__ = command.__doc__
    gathered.__name__ = command.__name__
    gathered.__dict__.update(command.__dict__)
    wrapped: Callable[..., object] = gathered
    for option in (
        click.option(
            "-o", "--option", multiple=True, metavar="NAME=VALUE", help="An option of the source's file system."
        ),
        click.option("--immutable/--mutable", default=None, help="The source never changes under a name."),
        click.option(
            "--max-stale", metavar="DURATION", help="How old a version may be: 30s, 5m. Default: asked each time."
        ),
        click.option("--page-size", metavar="SIZE", help="4K to 1M. Default: 64K."),
        click.option("--limit", metavar="SIZE", help="Of a zcache that names none: 2G, 25%."),
        click.option("--stack", metavar="TEXT", help="Where pages are kept, as zcache:2G; none = no cache."),
    ):
        wrapped = option(wrapped)
    return wrapped


def storage_options(words: tuple[str, ...]) -> tuple[tuple[str, Any], ...]:
    """`NAME=VALUE` for the source; a VALUE that is JSON is taken as such, `NAME.PART=VALUE` reaches inside.

    >>> storage_options(("anon=true", "client_kwargs.endpoint_url=http://localhost:1"))
    (('anon', True), ('client_kwargs', {'endpoint_url': 'http://localhost:1'}))

    Raises: click.BadParameter.
    """
    found: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"'{word}' is not NAME=VALUE", param_hint="-o")
        if (setting := name.replace("-", "_")) in PARSERS:
            way = f"use --{setting.replace('_', '-')}" if setting in FLAGS else f"set {PREFIX}{setting.upper()}"
            raise click.BadParameter(f"'{name}' is not an option of the source; {way}", param_hint="-o")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        *parents, last = name.split(".")
        place = found
        for parent in parents:
            inner = place.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise click.BadParameter(f"'{parent}' has a value already, so '{name}' has no place", param_hint="-o")
            place = inner
        place[last] = value
    return tuple(found.items())
