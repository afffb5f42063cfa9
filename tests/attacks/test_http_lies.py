"""Servers that answer what they should not, or lead elsewhere each time."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Any

import fsspec
import pytest

from tests.servers import Fault, FileServer

DATA = random.Random(8).randbytes(300_000)


@pytest.fixture
def server() -> Iterator[FileServer]:
    """A web server with one file under several names."""
    with FileServer(dict.fromkeys(("/file", "/one", "/two", "/three"), DATA)) as server:
        yield server


def file_system() -> Any:
    """An instance of its own, with a pool of its own."""
    return fsspec.filesystem(
        "cleancache", target_protocol="http", stack="zcache:pressure=no:16M", skip_instance_cache=True
    )


def test_F6_a_HEAD_that_tells_its_own_empty_length_makes_no_file_empty(server: FileServer) -> None:
    """Some frameworks answer HEAD with Content-Length: 0; once it gave empty bytes, without an error."""
    server.faults["/file"] = Fault(methods=("HEAD",), headers={"Content-Length": "0"})
    fs = file_system()

    for _ in range(2):
        assert fs.cat_file(server.url("/file")) == DATA
    with fs.open(server.url("/file")) as file:
        assert file.read() == DATA


@pytest.mark.parametrize("by", ["mirrors", "tokens"])
def test_S21_S23_a_host_that_leads_elsewhere_each_time_is_read_without_the_cache(server: FileServer, by: str) -> None:
    """Mirrors, and redirects with a new token each time; once every open file was ESTALE."""
    if by == "mirrors":
        places: Iterator[str] = itertools.cycle(["/one", "/two", "/three"])
    else:
        places = (f"/one?token={number}" for number in itertools.count())

    def lead(_: str, path: str) -> None:
        if path == "/moved":
            server.faults["/moved"] = Fault(redirect=next(places))

    server.hook = lead
    fs = file_system()

    for _ in range(3):
        with fs.open(server.url("/moved")) as file:
            assert file.read(70_000) + file.read(70_000) + file.read() == DATA
        assert fs.cat_file(server.url("/moved"), 10, 20) == DATA[10:20]
