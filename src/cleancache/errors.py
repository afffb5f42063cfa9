"""The exceptions that a user of cleancache can meet; a miss and a refusal are values, never exceptions.

`SpecError` says in one sentence what was asked, what is allowed and what to do; it is raised at start only. `Changed`
is between a source and the Reader: the bytes no longer have the version that was asked for; from an open file it
reaches the caller as `ESTALE`. Errors of a source pass through unchanged.
"""

from __future__ import annotations


class Error(Exception):
    """The parent of all exceptions of cleancache."""


class SpecError(Error, ValueError):
    """A mistake in stack text, options or configuration."""


class Changed(Error):  # noqa: N818 - a name of the contract; it is an answer more than a fault
    """The object at the source no longer has the version that was asked for."""
