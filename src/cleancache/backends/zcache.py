"""`zcache`: compressed RAM of this process. Wish W9.

`zcache:512M`, `zcache:25%` (of the memory this process may use, cgroups included), `zcache:codec=zstd:1G`,
`zcache:exclusive=yes:1G`. Each process has its own, so the default is small. A forked child starts with an empty one.

The limit is a ceiling: memory pressure lowers it at once and lets it rise slowly (`cleancache.pressure`).
"""

from __future__ import annotations

from typing import Final

from cleancache.backend import READER_BYTES
from cleancache.errors import SpecError
from cleancache.memory import memory_allowed
from cleancache.pressure import watch
from cleancache.spec import Share, Tier, did_you_mean, parse_bool, parse_limit, size_text
from cleancache.store import Store

DEFAULT_LIMIT: Final = "256M"
LEAST_LIMIT: Final = 8 << 20
_OPTIONS: Final = ("codec", "exclusive", "pressure")


class Zcache(Store):
    """A `Store` whose limit follows the memory pressure for as long as it is open."""

    def close(self) -> None:
        """Drop all pages, give the memory back and watch no more. Idempotent."""
        watch.remove(self)
        super().close()


def connect(tier: Tier) -> Zcache:
    """A Store for `zcache[:codec=lz4|zstd|none][:exclusive=yes|no][:pressure=yes|no][:LIMIT]`.

    Raises: SpecError, for an unknown option or value, or a limit below 8 MiB.

    >>> from cleancache.spec import parse_stack
    >>> store = connect(parse_stack("zcache:pressure=no:8M")[0])
    >>> store.limit_bytes
    8388608
    """
    options = dict(tier.options)
    for name in options:
        if name not in _OPTIONS:
            near = did_you_mean(name, _OPTIONS)
            hint = f"; did you mean {near}?" if near else "; the limit is the last part, as zcache:512M"
            raise SpecError(f"{name}= was asked for in {tier.printable!r}; zcache allows {', '.join(_OPTIONS)}{hint}")
    flags = {}
    for name, default in (("exclusive", "no"), ("pressure", "yes")):
        try:
            flags[name] = parse_bool(options.get(name, default))
        except SpecError as mistake:
            raise SpecError(f"{name}= in {tier.printable!r}: {mistake}") from None
    limit, _, rest = (tier.target or DEFAULT_LIMIT).partition(":")
    if "=" in rest:
        raise SpecError(f"{rest!r} stands behind the limit in {tier.printable!r}; write zcache:{rest}:{limit}")
    asked = parse_limit(tier.target or DEFAULT_LIMIT)
    limit_bytes = int(asked * memory_allowed()) if isinstance(asked, Share) else asked
    if limit_bytes < LEAST_LIMIT:
        raise SpecError(
            f"{tier.printable!r} is a limit of {size_text(limit_bytes)}; the least is {size_text(LEAST_LIMIT)}"
        )
    store = Zcache(
        limit_bytes,
        codec=options.get("codec", "lz4"),
        exclusive=flags["exclusive"],
        background=True,
        reader_bytes=READER_BYTES,
    )
    if flags["pressure"]:
        watch.add(store)
    return store
