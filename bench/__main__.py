"""All measurements, one command: what each row means is in `docs/performance.md`.

    python -m bench [--short] [--json] [--strict] [--only store,packing,scale,…] [--write docs/performance.md]

Exit 0, or 1 when `--strict` and a goal is missed by more than 15 % in the median of three runs.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from pathlib import Path

from bench.harness import FULL, SHORT, TINY, Report, Scale, as_json, machine, markdown, plain, too_far, versions

PARTS = ("store", "packing", "scale", "fsspec", "mount")
MARKS = "<!-- made by python -m bench -->", "<!-- end -->"
RUNS_WHEN_STRICT = 3


def run(parts: list[str], scale: Scale) -> Report:
    """One run of the *parts*, each a module of this package with a function `run`."""
    report = Report()
    for part in parts:
        began = time.monotonic()
        importlib.import_module(f"bench.{part}").run(report, scale)
        print(f"{part}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    return report


def surroundings(scale: Scale) -> list[str]:
    """Where this was measured, a line a subject."""
    lines = [" · ".join(f"{name} {value}" for name, value in facts.items()) for facts in (machine(), versions())]
    return [
        *lines,
        f"cold memory {scale.cold_bytes >> 20} MiB · {scale.rounds} rounds of {scale.round_s * 1000:.0f} ms "
        "· CPU time of one thread, unless a row says wall",
    ]


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").splitlines()[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--short", action="store_true", help="what CI has time for")
    size.add_argument("--tiny", action="store_true", help="only shows that everything runs")
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--strict", action="store_true", help="three runs where a goal is missed; exit 1 if by > 15 %%")
    parser.add_argument("--write", type=Path, help="the document whose table is replaced")
    options = parser.parse_args(arguments)
    scale = SHORT if options.short else TINY if options.tiny else FULL
    parts = options.only.split(",")
    if unknown := [part for part in parts if part not in PARTS]:
        parser.error(f"no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    before = surroundings(scale)
    reports = [run(parts, scale)]
    while options.strict and too_far(reports[:1]) and len(reports) < RUNS_WHEN_STRICT:
        reports.append(run(parts, scale))
    report = reports[0]
    if options.json:
        print(json.dumps(as_json(report), indent=1))
    else:
        show(report, before)
    if options.write:
        from bench.policy_sim import write_between

        text = "\n".join(f"{line}  " for line in before) + "\n\n" + markdown(report.rows) + "\n\n" + checks(report)
        write_between(options.write, MARKS, text)
    far = too_far(reports) if options.strict else []
    for line in far:
        print(f"missed by more than 15 % in the median of {len(reports)} runs: {line}", file=sys.stderr)
    return 1 if far else 0


def checks(report: Report) -> str:
    """What was compared and counted, in one line."""
    return ", ".join(f"{name.replace('_', ' ')} {number}" for name, number in report.checks.items())


def show(report: Report, before: list[str]) -> None:
    """Print a report for people."""
    print("\n".join(before), end="\n\n")
    print(plain(report.rows), end="\n\n")
    print(checks(report))
    for line in report.skipped:
        print(f"skipped: {line}")
    print(f"load afterwards {machine()['load']}")


if __name__ == "__main__":
    sys.exit(main())
