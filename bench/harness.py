"""How everything here is measured, and how it is printed.

All candidates and the reference run in every round, in an order shuffled anew, with `gc` off, for at least
`ROUND_S`; what counts is the median, and for ratios the *median of the ratios within each round*: two runs are
never compared. Times are CPU time of this thread (`time.thread_time_ns`), deaf to other load though not to cold
caches or shared bandwidth; rows that wait for somebody say *wall*. *Cold* means random places in at least 512 MiB
(16 times the last-level cache here), touched beforehand; `--short` takes less and says so. Less than 15 % is no
difference; a goal counts as missed with `--strict` when it is missed by more than that in the median of three runs.
"""

from __future__ import annotations

import gc
import importlib.metadata
import os
import platform
import random
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

MIB = 1 << 20
ROUND_S = 0.02
SLACK = 1.15  # what CI forgives: the noise of a shared machine


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured: the whole, or what CI has time for."""

    cold_bytes: int = 512 * MIB
    rounds: int = 9
    most_pages: int = 1_000_000
    round_s: float = ROUND_S
    processes: int = 3  # for rows that need fresh ones
    sweep_bytes: int = 64 * MIB  # read to empty the caches


FULL = Scale()
SHORT = Scale(cold_bytes=128 * MIB, rounds=5, most_pages=100_000)
TINY = Scale(
    cold_bytes=8 * MIB, rounds=3, most_pages=2_000, round_s=0.002, processes=1, sweep_bytes=MIB
)  # for the tests of the bench itself


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, least and greatest of some rounds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the report: what was measured, beside what, and whether the goal is met."""

    goal: str  # "G1", or "" for what is only shown
    name: str
    value: Spread
    unit: str
    ratio: Spread | None = None
    reference: str = ""
    wanted: str = ""
    bound: float | None = None  # of the ratio if there is one, else of the value
    at_least: bool = False
    note: str = ""

    @property
    def excess(self) -> float | None:
        """By which factor the goal is missed; below 1 it is met."""
        if self.bound is None:
            return None
        got = (self.ratio or self.value).median
        if self.at_least:
            return self.bound / got if got else float("inf")
        return got / self.bound if self.bound else (1.0 if got <= 0 else float("inf"))

    @property
    def verdict(self) -> str:
        """`met`, `missed`, or nothing where there is no goal."""
        excess = self.excess
        return "" if excess is None else "met" if excess <= 1.0 else "missed"

    @property
    def key(self) -> str:
        """What makes this row the same row in another run."""
        return f"{self.goal} {self.name}"


@dataclass(slots=True)
class Report:
    """The rows of a run, and what was left out, with the reason."""

    rows: list[Row] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    checks: dict[str, int] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """Take one row."""
        self.rows.append(row)

    def count(self, **numbers: int) -> None:
        """Add to the counters that are printed below the table: hits, misses, bytes compared."""
        for name, number in numbers.items():
            self.checks[name] = self.checks.get(name, 0) + number


Case = Callable[[], int]  # does some operations and says how many


def measure(
    cases: Mapping[str, Case],
    scale: Scale = FULL,
    *,
    after: Mapping[str, Callable[[], object]] | None = None,
    clock: Callable[[], int] = time.thread_time_ns,
    seed: int = 0,
) -> dict[str, list[float]]:
    """Microseconds an operation of each case, in each round; rounds of all cases, shuffled.

    A case is repeated within its round until `scale.round_s` is over; what *after* names for it runs in between, off
    the clock. The first round is thrown away: it warms up.
    """
    clean_up = after or {}
    chance = random.Random(seed)
    times: dict[str, list[float]] = {name: [] for name in cases}
    gc_was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for turn in range(scale.rounds + 1):
            for name in chance.sample(list(cases), len(cases)):
                run, took, done = cases[name], 0, 0
                while took < scale.round_s * 1e9:
                    began = clock()
                    done += run()
                    took += max(clock() - began, 1)
                    if name in clean_up:
                        clean_up[name]()
                if turn:
                    times[name].append(took / done / 1e3)
    finally:
        if gc_was_on:
            gc.enable()
    return times


def ratios(times: Mapping[str, list[float]], name: str, reference: str) -> Spread:
    """The median of the in-round ratios, and the least and greatest of them."""
    return Spread.of([a / b for a, b in zip(times[name], times[reference], strict=True)])


def compare(
    goal: str,
    name: str,
    times: Mapping[str, list[float]],
    case: str,
    reference: str,
    *,
    wanted: str = "",
    bound: float | None = None,
    at_least: bool = False,
    note: str = "",
) -> Row:
    """A row of *case* beside *reference*, both from one call of `measure`."""
    return Row(
        goal,
        name,
        Spread.of(times[case]),
        "µs",
        ratios(times, case, reference),
        reference,
        wanted,
        bound,
        at_least,
        note,
    )


# --- what a report says about where it was made


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _cpu() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def machine() -> dict[str, str]:
    """CPU, memory, kernel: what a ratio may depend on."""
    caches = {}
    for index in range(8):
        base = f"/sys/devices/system/cpu/cpu0/cache/index{index}"
        if level := _read(f"{base}/level"):
            caches[f"L{level} {_read(f'{base}/type').lower()}"] = _read(f"{base}/size")
    memory = next((line.split()[1] for line in _read("/proc/meminfo").splitlines() if line.startswith("MemTotal")), "0")
    return {
        "cpu": _cpu(),
        "cores": str(os.cpu_count()),
        "caches": ", ".join(f"{name} {size}" for name, size in caches.items() if "instruction" not in name),
        "memory": f"{int(memory) / 2**20:.1f} GiB",
        "kernel": platform.release(),
        "virtual": "yes" if " hypervisor" in _read("/proc/cpuinfo") else "no",
        "shmem huge pages": _read("/sys/kernel/mm/transparent_hugepage/shmem_enabled"),
        "malloc": " ".join(f"{k}={v}" for k, v in sorted(os.environ.items()) if k.startswith("MALLOC_")) or "as it is",
        "load": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


def versions() -> dict[str, str]:
    """Python, libc, codecs and peers, and the commit that is measured."""
    found = {"python": platform.python_version(), "libc": " ".join(platform.libc_ver())}
    for name in ("cleancache", "lz4", "xxhash", "zstandard", "numpy", "pyarrow", "fsspec", "aiohttp"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "none"
    found["commit"] = "unknown"
    if git := shutil.which("git"):
        command = [git, "describe", "--always", "--dirty", "--abbrev=12"]
        where = Path(__file__).resolve().parent
        said = subprocess.run(command, cwd=where, capture_output=True, text=True, check=False).stdout
        found["commit"] = said.strip() or "unknown"
    return found


def resident_bytes() -> int:
    """RSS of this process, shared memory included."""
    return int(_read("/proc/self/statm").split()[1]) * os.sysconf("SC_PAGE_SIZE")


# --- printing


def number(value: float, unit: str) -> str:
    """Three figures are all that such a measurement has.

    >>> number(12.345, "µs"), number(0.1234, "µs"), number(1234.5, "ms"), number(0, "calls")
    ('12.3', '0.123', '1234', '0')
    """
    if unit in ("calls", "pages"):
        return f"{value:.0f}"
    digits = next((digits for least, digits in ((100, 0), (10, 1), (1, 2)) if abs(value) >= least), 3)
    return f"{value:.{digits}f}"


HEAD = ("goal", "what", "median", "min–max", "ratio", "min–max", "reference", "wanted", "")


def cells(row: Row) -> tuple[str, ...]:
    """One row as texts, in the order of `HEAD`."""
    value, ratio = row.value, row.ratio
    return (
        row.goal,
        row.name + (f" ({row.note})" if row.note else ""),
        f"{number(value.median, row.unit)} {row.unit}".rstrip(),
        f"{number(value.least, row.unit)}–{number(value.most, row.unit)}",
        f"{ratio.median:.2f}" if ratio else "",
        f"{ratio.least:.2f}–{ratio.most:.2f}" if ratio else "",
        row.reference,
        row.wanted,
        row.verdict,
    )


def markdown(rows: list[Row]) -> str:
    """The rows as a table of Markdown."""
    lines = ["| " + " | ".join(HEAD) + " |", "|---|---|---:|---:|---:|---:|---|---|---|"]
    lines += ["| " + " | ".join(cells(row)) + " |" for row in rows]
    return "\n".join(lines)


def plain(rows: list[Row]) -> str:
    """The rows as a table for a terminal."""
    table = [HEAD, *(cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(HEAD))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in table
    )


def as_json(report: Report) -> dict[str, object]:
    """A report for machines."""
    return {
        "machine": machine(),
        "versions": versions(),
        "rows": [asdict(row) | {"verdict": row.verdict, "excess": row.excess} for row in report.rows],
        "skipped": report.skipped,
        "checks": report.checks,
    }


def too_far(reports: list[Report]) -> list[str]:
    """The goals that are missed by more than `SLACK` in the median of several runs."""
    excesses: dict[str, list[float]] = {}
    for report in reports:
        for row in report.rows:
            if row.excess is not None:
                excesses.setdefault(row.key, []).append(row.excess)
    return [
        f"{key}: {statistics.median(found):.2f}x its bound"
        for key, found in excesses.items()
        if statistics.median(found) > SLACK
    ]
