"""The examples in docstrings run, each module's in a process of its own: what a public name shows is what it does.

An example may use the public names of the package (and of `cleancache.testing`, inside of it) as if it began with
`from cleancache import *`.
"""

from __future__ import annotations

import doctest
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project.tree import SRC, TOP

MODULES = sorted(
    ".".join(path.relative_to(SRC.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in SRC.rglob("*.py")
    if ">>>" in path.read_text()
)


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings_show_what_they_do(module: str, tmp_path: Path) -> None:
    paths = os.pathsep.join([str(TOP), os.environ.get("PYTHONPATH", "")])

    done = subprocess.run(
        [sys.executable, "-m", __spec__.name, module],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": paths, "XDG_CONFIG_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == 0, done.stdout + done.stderr


def main(module: str) -> int:
    """Run the examples of *module*; 0 when there are some and all hold."""
    packages = ["cleancache"] + ["cleancache.testing"] * module.startswith("cleancache.testing")
    public = {
        name: getattr(package, name) for package in map(importlib.import_module, packages) for name in package.__all__
    }
    tested = importlib.import_module(module)
    failed, tried = doctest.testmod(tested, globs=public | vars(tested), optionflags=doctest.ELLIPSIS)
    return 1 if failed or not tried else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
