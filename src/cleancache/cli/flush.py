"""`flush`: the answer to "how do I clear one file", as far as another process can give it."""

from __future__ import annotations

import os
import uuid

import click

from cleancache.cli.access import Access
from cleancache.cli.options import Flags, common, reading
from cleancache.cli.say import Say, hide
from cleancache.frontends.control import ask_all
from cleancache.handle import Scope, pool_text, shared_pool

IN_PROCESS = frozenset({"zcache"})  # kinds whose pages nobody outside the process can reach


@click.command()
@click.argument("target", metavar="URL|DIR|POOL")
@reading
@common
@click.pass_obj
def flush(say: Say, target: str, flags: Flags) -> None:
    """Forget a mount, one object, or all of a shared pool, in every tier of the stack that other processes share."""
    from cleancache import config
    from cleancache.spec import parse_stack, printable_text

    if answers := [each for each in ask_all(verb="flush", directory=os.path.abspath(target)) if "flushed" in each]:
        for each in answers:
            say.note(f"flushed the mount {target}, {each['pages']} pages")
        return
    is_pool = _is_uuid(target)
    settings = config.resolve(None if is_pool else target, **flags.settings())
    stack = parse_stack(settings.stack)
    kinds = [tier.kind for tier in stack]
    if not kinds or IN_PROCESS.issuperset(kinds):
        tiers = (
            f"the stack '{printable_text(stack)}' has no tier that processes share" if kinds else "the stack is 'none'"
        )
        raise click.ClickException(
            f"nothing to flush: {tiers}; the pages of a zcache end with the process that reads, "
            "and there a changed file is another object at the next open"
        )
    if not is_pool and settings.pool is None:
        raise click.ClickException(
            f"{hide(target)} is in private pools, which end with the processes that read; "
            "only a shared pool can be reached from here: name it by CLEANCACHE_POOL"
        )
    with Access(flags) as access:
        if is_pool:
            pool = access.pool(config.resolve(None, **flags.settings(), pool=target))
            is_told, what = pool.flush(Scope(pool.id)), f"pool {pool_text(shared_pool(target))}"
        else:
            place = access.place(target)
            is_told, what = place.reader.flush(place.name), hide(target)
    if not is_told:
        raise click.ClickException(
            f"{what}: a tier could not be told; it gives nothing of it to this process, others may"
        )
    say.note(f"flushed {what}")


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
