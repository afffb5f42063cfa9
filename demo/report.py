"""The table that `make demo` prints. It only formats: every figure comes from the run."""

from __future__ import annotations

from typing import Any

PHASES = {"first": "first pass", "second": "second pass", "pieces": "random pieces"}


def size_text(size: float | None) -> str:
    """A number of bytes as a person reads it."""
    if size is None:
        return "–"
    return f"{size / 2**20:.1f} MiB"


def row_cells(row: dict[str, Any]) -> list[str]:
    """One way of reading: seconds and requests by phase, bytes from the source, what is held, is it fresh."""
    cells = [row["way"]]
    for name in PHASES:
        phase = row["phases"][name]
        cells += [f"{phase['seconds']:.2f} s", str(phase["requests"])]
    cells.append(size_text(sum(phase["source_bytes"] for phase in row["phases"].values())))
    limit = row.get("limit_bytes")
    held = size_text(row["held_bytes"]) if "held_bytes" in row else "nothing"
    cells.append(f"{held} of {size_text(limit)}" if limit else held)
    cells.append("new bytes" if row["new_bytes_after_change"] else "OLD bytes")
    return cells


def table(document: dict[str, Any]) -> str:
    """All of it for a terminal."""
    head = [
        "",
        *(text for title in PHASES.values() for text in (title, "req")),
        "from source",
        "held",
        "after a change",
    ]
    rows = [head, *(row_cells(row) for row in document["rows"])]
    widths = [max(len(row[at]) for row in rows) for at in range(len(head))]
    lines = [
        f"{document['files']} files of this Python installation, {size_text(document['bytes'])}, from an HTTP server "
        f"on loopback that waits {document['delay_s'] * 1000:.0f} ms before each answer.",
        "Each way reads in a fresh process; every byte was compared with the file it came from.",
        "",
    ]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    for row in document["rows"]:
        if "hits" in row and row["way"] == "cleancache":
            lines += ["", *store_lines(document["stack"], row)]
    lines += [
        "",
        "cleancache asks the source for the version at every open: those are its requests of the second pass, and why",
        "it never gives old bytes. With max_stale=60s it asks once a minute, and old bytes may be given for that long.",
        "blockcache and filecache as they come (check_files=False) never ask, have no limit, and keep files on disk.",
    ]
    return "\n".join(lines)


def store_lines(stack: str, row: dict[str, Any]) -> list[str]:
    """What the store says of itself."""
    compression, sharing = row.get("compression"), row.get("sharing")
    return [
        f"The store {stack}: {row['hits']} hits of {row['gets']} gets; {size_text(row['logical_bytes'])} of pages "
        f"held in {size_text(row['held_bytes'])} of at most {size_text(row['limit_bytes'])} (index and all);",
        f"  sharing {sharing:.2f}×, compression {compression:.2f}×."
        if compression and sharing
        else "  it holds no pages.",
    ]
