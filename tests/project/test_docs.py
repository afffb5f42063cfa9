"""Documents and program agree: what a user can meet is described, what is described exists.

Commands and options, statistics and their labels, exceptions, settings; links lead somewhere; the code in the documents
runs where it shows a result (`>>>`) and parses where it does not.
"""

from __future__ import annotations

import ast
import dataclasses
import doctest
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from cleancache import errors
from cleancache.backend import LEFT, MISSES, REFUSALS, SCOPES, Stats
from tests.project.tree import DOCS, TOP, files, name

PAGES = sorted([*DOCS.glob("*.md"), TOP / "README.md", TOP / "CHANGELOG.md"])
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
TARGET = re.compile(r"`make ([a-z]+)|^ +make ([a-z]+)", re.MULTILINE)


def text(page: str) -> str:
    return (DOCS / page).read_text()


def quoted(page: str) -> set[str]:
    """The words that stand in backquotes on *page*, and those inside of them."""
    found = set()
    for span in re.findall(r"`([^`\n]+)`", text(page)):
        found |= {span, *re.findall(r"[\w.-]+", span)}
    return found


def anchors(path: Path) -> set[str]:
    """The anchors of the headings of *path*, as the usual renderers make them."""
    titles = re.findall(r"^#+ +(.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def code(path: Path) -> Iterator[tuple[int, str]]:
    """The Python blocks of *path*, each with its line."""
    content = path.read_text()
    for fence in FENCE.finditer(content):
        if fence[1] in ("python", "py", "pycon"):
            yield content.count("\n", 0, fence.start()) + 2, fence[2]


@pytest.mark.parametrize("field", dataclasses.fields(Stats), ids=lambda field: str(field.name))
def test_N3_every_statistic_has_its_row(field: dataclasses.Field[object]) -> None:
    metric = f"cleancache_{field.name}"
    rows = [line for line in text("accounting.md").splitlines() if line.startswith(f"| `{metric}")]
    rows = [line for line in rows if f"`{field.name}`" in line.split("|")[2]]

    assert len(rows) == 1, f"{field.name}: one row in docs/accounting.md"
    shown = rows[0].split("|")[1]
    assert metric in shown
    assert ("_total" in shown) == (field.metadata["kind"] == "counter")
    if field.metadata["label"]:
        assert f"{{{field.metadata['label']}}}" in shown
    assert field.metadata["kind"] in rows[0].split("|")[3]


def test_N3_every_label_of_a_statistic_is_explained() -> None:
    assert {*MISSES, *REFUSALS, *LEFT, *SCOPES} - quoted("accounting.md") == set()
    assert {*MISSES, *REFUSALS} - {"absent"} - quoted("errors.md") == set()


def test_every_exception_is_documented() -> None:
    public = {
        f"cleancache.errors.{key}"
        for key, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, Exception) and value.__module__ == errors.__name__
    }

    assert public - quoted("errors.md") == set()


def test_every_setting_is_documented_with_its_variable() -> None:
    from cleancache.config import Settings

    names = {field.name for field in dataclasses.fields(Settings)}

    assert names - quoted("configuration.md") == set()
    assert {f"CLEANCACHE_{setting.upper()}" for setting in names} - quoted("configuration.md") == set()


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command of the command line, with the words that call it."""
    from cleancache.cli.app import app

    def walk(words: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
        yield words, command
        if isinstance(command, click.Group):
            for key, below in command.commands.items():
                yield from walk(f"{words} {key}", below)

    yield from walk("cleancache", app)


def test_every_command_and_option_is_documented() -> None:
    page, words = text("cli.md"), quoted("cli.md")
    missing = []
    for call, command in commands():
        if call not in page:
            missing.append(call)
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                missing += [f"{call} {option}" for option in parameter.opts if option not in words]

    assert missing == []


def test_every_exit_code_is_documented() -> None:
    rows = re.findall(r"^\| (\d+) \|", text("errors.md"), re.MULTILINE)

    assert rows == ["0", "1", "2", "130", "141"]


def test_every_kind_of_back_end_is_documented() -> None:
    from importlib.metadata import entry_points

    kinds = {point.name for point in entry_points(group="cleancache.backends")}

    assert "zcache" in kinds
    assert kinds - quoted("stack-text.md") == set()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(FENCE.sub("", page.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        where, _, anchor = link.partition("#")
        target = (page.parent / where).resolve() if where else page
        assert target.exists(), f"{name(page)}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{name(page)}: {link}"


def test_the_readme_leads_to_every_page() -> None:
    linked = set(LINK.findall((TOP / "README.md").read_text()))

    assert {f"docs/{page.name}" for page in DOCS.glob("*.md")} - linked == set()


@pytest.mark.parametrize("page", [page for page in PAGES if any(code(page))], ids=name)
def test_python_in_the_documents_parses(page: Path) -> None:
    for line, block in code(page):
        if ">>>" not in block:
            try:
                ast.parse(block)
            except SyntaxError as error:
                pytest.fail(f"{name(page)}:{line}: {error}")


@pytest.mark.expects_logs
@pytest.mark.parametrize("page", [page for page in PAGES if any(">>>" in block for _, block in code(page))], ids=name)
def test_examples_in_the_documents_show_what_they_do(page: Path) -> None:
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False)
    names: dict[str, object] = {}
    said: list[str] = []
    for line, block in code(page):
        if ">>>" in block:
            example = parser.get_doctest(block, names, name(page), str(page), line - 1)
            runner.run(example, out=said.append, clear_globs=False)
            names = example.globs

    assert runner.summarize(verbose=False).failed == 0, "".join(said)


def test_each_wish_that_works_names_what_shows_it_and_the_others_say_not_yet() -> None:
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in text("origin.md").splitlines() if line[:3] == "| W"
    ]

    assert [row[0] for row in rows] == [f"W{number}" for number in range(1, 14)]
    for number, _, _, state, shown in rows:
        assert state.startswith(("works", "not yet")), number
        places = re.findall(r"`((?:tests|src)/[\w/.]+)`", shown)
        assert bool(places) == state.startswith("works"), number
        sources = "".join((TOP / place).read_text() for place in places)
        for proof in re.findall(r"`((?:test|check)_\w+|Test\w+)`", shown):
            assert re.search(rf"(?:def|class) {proof}\b", sources), f"{number}: {proof}"


def test_targets_that_documents_name_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (TOP / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        for pair in TARGET.findall(page.read_text()):
            assert (pair[0] or pair[1]) in targets, f"{name(page)}: make {pair[0] or pair[1]}"


def test_each_file_says_what_it_is_for() -> None:
    bare = [
        name(path)
        for path in files(".py")
        if path.read_text().strip()
        and path.name != "__init__.py"
        and ast.get_docstring(ast.parse(path.read_text())) is None
    ]

    assert bare == []
