"""What is said, and where: data on stdout, everything else on stderr, colour only for those who want it.

Colour: `--color` > `NO_COLOR` > `FORCE_COLOR` > is it a terminal, asked for each stream by itself. No credential is
ever shown: a URL loses its user part and the values of its query, also inside other people's messages.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

from cleancache.errors import Error

_USER_PART = re.compile(r"(?<=//)[^/@\s'\"]+@")
_QUERY = re.compile(r"(?<=[?&])([A-Za-z0-9_.-]+)=[^&\s'\"]*[^&\s'\":,;)]")


class Say:
    """Quiet, talkative or plain; one for each run of the command."""

    def __init__(self) -> None:
        self.quiet = False
        self.verbose = False
        self.color = colour("auto")

    def settle(self, *, quiet: bool = False, verbose: bool = False) -> None:
        """Take `-q` and `-v`, before or after the name of the command; the library's log lines follow them."""
        self.quiet |= quiet
        self.verbose |= verbose
        if self.verbose:
            logging.basicConfig(stream=sys.stderr, format="cleancache: %(name)s: %(message)s")
            logging.getLogger("cleancache").setLevel(logging.INFO)
        elif self.quiet:
            logging.getLogger("cleancache").setLevel(logging.ERROR)

    def out(self, text: str) -> None:
        """A line of data."""
        click.echo(text, color=self.color)

    def json(self, document: Any) -> None:
        """One document; sizes in it are exact."""
        click.echo(json.dumps(document, ensure_ascii=False, default=str))

    def note(self, text: str) -> None:
        """Something a person may want to know, unless quiet."""
        if not self.quiet:
            click.echo(hide(text), err=True, color=self.color)

    def problem(self, text: str) -> None:
        """Why the answer is no; said even when quiet."""
        click.echo(f"{click.style('cleancache:', fg='red')} {hide(text)}", err=True, color=self.color)

    def table(self, rows: Iterable[Sequence[str]], *, right: frozenset[int] = frozenset()) -> None:
        """Columns on stdout; those in *right* stand at the right edge."""
        lines = [tuple(row) for row in rows]
        widths = [max(len(click.unstyle(cell)) for cell in column) for column in zip(*lines, strict=True)]
        for line in lines:
            cells = []
            for number, cell in enumerate(line):
                room = " " * (widths[number] - len(click.unstyle(cell)))
                cells.append(room + cell if number in right else cell + room)
            self.out("  ".join(cells).rstrip())


def colour(choice: str) -> bool | None:
    """True, False, or None: each stream decides by itself whether it is a terminal."""
    if choice != "auto":
        return choice == "always"
    if os.environ.get("NO_COLOR"):
        return False
    return True if os.environ.get("FORCE_COLOR") else None


def hide(text: str) -> str:
    """The same text without credentials.

    >>> hide("https://me:secret@host/a?X-Amz-Signature=abc: refused")
    'https://host/a?X-Amz-Signature=…: refused'
    """
    return _QUERY.sub(r"\1=…", _USER_PART.sub("", text))


def sentence(error: BaseException) -> str:
    """An error of a source, or of ours, as one sentence.

    >>> sentence(FileNotFoundError("s3://b/k"))
    'the source has nothing of this name: s3://b/k'
    """
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        text = f"{error.strerror}: {error.filename}"
    if isinstance(error, FileNotFoundError):
        return f"the source has nothing of this name: {error.filename or text}"
    if isinstance(error, IsADirectoryError):
        return f"this is a directory: {error.filename or text}"
    if isinstance(error, PermissionError):
        return f"the source does not allow it: {text}"
    if isinstance(error, TimeoutError):
        return f"the source did not answer in time: {text}"
    if isinstance(error, ImportError):
        return f"a library is missing: {text}"
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, (OSError, ValueError, Error)):
        return text
    return f"{type(error).__name__}: {text}"
