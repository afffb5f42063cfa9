"""The table that `make demo` prints. It only formats: every figure comes from the run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

PHASES = {"first": "first pass", "second": "second pass", "pieces": "random pieces"}
Row = dict[str, Any]


def size_text(size: float | None) -> str:
    """A number of bytes as a person reads it."""
    return "–" if size is None else f"{size / 2**20:.1f} MiB"


def measures() -> list[tuple[str, Callable[[Row], str]]]:
    """What is shown of each way of reading, top to bottom."""

    def phase(key: str, show: Callable[[Row], str]) -> Callable[[Row], str]:
        return lambda row: show(row["phases"][key])

    found: list[tuple[str, Callable[[Row], str]]] = []
    for key, title in PHASES.items():
        found.append((f"{title}: seconds", phase(key, lambda part: f"{part['seconds']:.2f}")))
        found.append(("  requests to the source", phase(key, lambda part: str(part["requests"]))))
        found.append(("  fetched from the source", phase(key, lambda part: size_text(part["source_bytes"]))))
    return [
        *found,
        ("held in the end", lambda row: size_text(row["held_bytes"]) if "held_bytes" in row else "nothing"),
        ("limit", lambda row: size_text(row["limit_bytes"]) if "limit_bytes" in row else "none"),
        ("read after a change", lambda row: "new bytes" if row["new_bytes_after_change"] else "OLD bytes"),
    ]


def table(document: dict[str, Any]) -> str:
    """All of it for a terminal."""
    rows = document["rows"]
    names = [row["way"].split(", ") for row in rows]
    lines = [["", *(name[0] for name in names)]]
    if any(len(name) > 1 for name in names):
        lines.append(["", *(name[1] if len(name) > 1 else "" for name in names)])
    lines += [[title, *(show(row) for row in rows)] for title, show in measures()]
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    size, delay_ms = size_text(document["bytes"]), f"{document['delay_s'] * 1000:.0f} ms"
    printed = [
        f"{document['files']} files of this Python installation, {size}, from an HTTP server on loopback that waits",
        f"{delay_ms} before each answer. Each way is a fresh process; every byte was compared with its file.",
        "",
    ]
    for line in lines:
        cells = [
            line[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)),
        ]
        printed.append("  ".join(cells).rstrip())
    for row in rows:
        if row["way"] == "cleancache":
            printed += ["", *store_lines(document["stack"], row)]
    printed += [
        "",
        "cleancache asks the source for the version at every open: those are its requests of the later phases, and why",
        "it never gives old bytes. With max_stale=60s it asks once a minute, and old bytes may be given for that long.",
        "blockcache and filecache as they come (check_files=False) never ask, have no limit, and keep files on disk.",
    ]
    return "\n".join(printed)


def store_lines(stack: str, row: Row) -> list[str]:
    """What the store says of itself."""
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(row["refused"].items()) if count) or "none"
    compression, sharing = row["compression"] or 1.0, row["sharing"] or 1.0
    held, limit = size_text(row["held_bytes"]), size_text(row["limit_bytes"])
    return [
        f"The store {stack}: {row['hits']} hits of {row['gets']} gets; {size_text(row['logical_bytes'])} of pages held",
        f"in {held} of at most {limit}, index and all: sharing {sharing:.2f}×, compression {compression:.2f}×.",
        f"Evicted: {row['evicted']} pages. Puts refused: {reasons}.",
    ]
