"""Which keyword is whose: ours, a peer's word for ours, or the target's.

fsspec gives plain keywords to the outermost protocol of a URL, so `storage_options={"endpoint_url": …}` reaches us
although it is meant for s3. So what is not ours goes on to the target, and adding the prefix is all that a working
call needs. Object stores swallow keywords that they do not know, so a near miss of one of ours (`max_stael`) must not
get there: it is an error.
"""

from __future__ import annotations

import difflib
import inspect
import warnings
from collections.abc import Mapping
from typing import Any

from fsspec import get_filesystem_class

from cleancache.config import PARSERS
from cleancache.errors import SpecError

PEERS = ("check_files", "cache_check", "cache_storage", "same_names")  # of fsspec's caching classes; no meaning here
NEAR = 0.8  # difflib's ratio: max_stael 0.89, pagesize 0.94, limits 0.91; poll 0.75, block_size 0.63


def split(
    given: Mapping[str, Any], other: Mapping[str, Any], target_protocol: str | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(ours, the target's) of the options *given* under our names and of all *other* keywords.

    Raises: SpecError, for a keyword that is nearly one of ours.
    """
    ours = {name: value for name, value in given.items() if value is not None}
    theirs = dict(other)
    if "expiry_time" in theirs:
        expiry = theirs.pop("expiry_time")
        ours.setdefault("max_stale", expiry or 0)
    ignored = [name for name in PEERS if theirs.pop(name, None) is not None]
    if ignored:
        warnings.warn(
            f"cleancache has no use for {', '.join(ignored)}: pages are in RAM, and the version is asked at every open",
            stacklevel=4,
        )
    known = _parameters(target_protocol) if theirs else frozenset()
    for name in theirs:
        near = difflib.get_close_matches(name, (*PARSERS, "expiry_time", *PEERS), n=1, cutoff=NEAR)
        if near and name not in known:
            raise SpecError(
                f"no option {name!r}: did you mean {near[0]!r}? An option of the target with that name goes into "
                f"storage_options={{{target_protocol or 'PROTOCOL'!r}: {{…}}}}"
            )
    return ours, theirs


def _parameters(protocol: str | None) -> frozenset[str]:
    """The keywords that the target's class names."""
    if protocol is None:
        return frozenset()
    return frozenset(inspect.signature(get_filesystem_class(protocol).__init__).parameters)
