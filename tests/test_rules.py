"""docs/laws.md and the tests hold together: every number has its row, every row says where it is proved, and is right.

A row is proved by test files that name its number, or is *later* with the part that it needs, or is *documented*.
`python -m tests.test_rules` writes the files of each proved row anew, after tests were moved; then read what changed.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
PAGE = TOP / "docs" / "laws.md"
ROW = re.compile(r"^\| ([A-Z]\d+)(?:–[A-Z](\d+))? \| (.+?) \| (.+) \|$", re.MULTILINE)
LATER = ("chain", "guests", "mount", "ramster", "tmem")

# how many rules of each letter there are
COUNTS = {
    "V": 15, "I": 15, "C": 14, "M": 14, "P": 12, "N": 4, "F": 12, "R": 8,
    "X": 65, "S": 40, "D": 11, "T": 8, "A": 9, "B": 22,
}  # fmt: skip


def rows() -> list[tuple[list[str], str, str]]:
    """The rules of each row, what it says, and its state."""
    found = []
    for first, last, says, state in ROW.findall(PAGE.read_text()):
        numbers = range(int(first[1:]), int(last or first[1:]) + 1)
        found.append(([f"{first[0]}{number}" for number in numbers], says, state))
    return found


def sources() -> dict[str, str]:
    """The text of every test file by its name, and of the public suite."""
    files = [path for path in (TOP / "tests").rglob("*.py") if path != Path(__file__)]
    return {path.stem: path.read_text() for path in [*files, TOP / "src/cleancache/testing/laws.py"]}


TEXTS = sources()
TESTED = [(rules, state) for rules, _, state in rows() if state.startswith("`")]


def test_every_rule_has_exactly_one_row() -> None:
    numbers = [rule for rules, *_ in rows() for rule in rules]
    wanted = [f"{letter}{number}" for letter, count in COUNTS.items() for number in range(1, count + 1)]

    assert sorted(numbers) == sorted(wanted)


def test_every_state_is_one_that_exists() -> None:
    for rules, says, state in rows():
        assert says.endswith("."), f"{rules[0]} says no sentence"
        if state.startswith("later: "):
            assert state.removeprefix("later: ") in LATER, f"{rules[0]} waits for {state}"
        elif state.startswith("documented: "):
            link = re.search(r"\]\(([\w.-]+)\)", state)
            assert link, f"{rules[0]} is documented nowhere"
            assert (PAGE.parent / link[1]).exists(), f"{rules[0]} is documented in {link[1]}, which is not there"
        else:
            assert re.fullmatch(r"`[\w`, ]+`", state), f"{rules[0]}: {state}"


@pytest.mark.parametrize(("rules", "state"), TESTED, ids=[rules[0] for rules, _ in TESTED])
def test_a_rule_is_named_by_the_tests_that_prove_it(rules: list[str], state: str) -> None:
    for name in re.findall(r"`(\w+)`", state):
        assert name in TEXTS, f"{rules[0]}: there is no test file {name}; moved? python -m tests.test_rules"
        named = [rule for rule in rules if re.search(rf"(?<![A-Za-z0-9]){rule}(?![0-9A-Za-z])", TEXTS[name])]
        assert named, f"{name} does not name {rules[0]}; moved? python -m tests.test_rules"


def proofs(rules: list[str]) -> list[str]:
    """At most three test files for a row; those that have the number in the name of a test come first."""
    found = []
    for name, text in TEXTS.items():
        names = " ".join(re.findall(r"def (?:test|check)_\w+", text))
        is_named = any(re.search(rf"_{rule}(?:_|\b)", names) for rule in rules)
        if is_named or any(re.search(rf"(?<![A-Za-z0-9]){rule}(?![0-9A-Za-z])", text) for rule in rules):
            found.append((not is_named, name))
    return [name for _, name in sorted(found) if name.startswith("test_") or name in ("laws", "store_proofs")][:3]


def rewrite() -> None:
    """Write the third column of the proved rows anew."""

    def row(match: re.Match[str]) -> str:
        first, last, says, state = match.groups()
        numbers = range(int(first[1:]), int(last or first[1:]) + 1)
        files = ", ".join(f"`{name}`" for name in proofs([f"{first[0]}{number}" for number in numbers]))
        rule = f"{first}–{first[0]}{last}" if last else first
        return f"| {rule} | {says} | {files or 'nothing'} |" if state[0] in "`n" else match[0]

    PAGE.write_text(ROW.sub(row, PAGE.read_text()))


if __name__ == "__main__":
    rewrite()
