"""The units of docs/operate.md are what systemd understands."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import cannot
from tests.project.tree import DOCS


@pytest.mark.slow
def test_systemd_takes_the_units_of_the_documents(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        cannot("systemd-analyze is missing: apt-get install systemd")
    found = re.findall(
        r"`/etc/systemd/system/([\w.-]+)`:\n\n```ini\n(.*?)```", (DOCS / "operate.md").read_text(), re.DOTALL
    )
    assert [name for name, _ in found] == ["mnt-data.mount", "mnt-data.automount"]
    for name, text in found:
        (tmp_path / name).write_text(text)

    done = subprocess.run(
        ["systemd-analyze", "verify", *(str(tmp_path / name) for name, _ in found)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    about = [line for line in done.stderr.splitlines() if "mnt-data" in line]
    assert about == []
