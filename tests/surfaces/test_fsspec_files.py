"""An open file of `cleancache::`: the bytes of one version (F4), whatever the mix of reads."""

from __future__ import annotations

import errno
import io
import pickle
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest

from tests.surfaces.servers import clean_start
from tests.surfaces.web import Site, serving

__all__ = ["clean_start"]
STACK = "zcache:64M"
PAGE = 4096
DATA = random.Random(1).randbytes(5 * PAGE + 1234)
NEWER = random.Random(2).randbytes(4 * PAGE + 99)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with serving(tmp_path) as site:
        yield site


def over_http(**options: Any) -> Any:
    return fsspec.filesystem("cleancache", target_protocol="http", stack=STACK, page_size=PAGE, **options)


def test_any_mix_of_reads_gives_the_bytes_of_the_file(site: Site) -> None:
    lines = b"".join(b"%d: %s\n" % (n, b"x" * (n * 37 % 300)) for n in range(200))
    url, chance = site.write("a.txt", lines), random.Random(4)

    with over_http().open(url) as file:
        like = io.BytesIO(lines)
        for _ in range(400):
            match chance.randrange(6):
                case 0:
                    to = chance.randrange(len(lines) + 100)
                    assert file.seek(to) == like.seek(to)
                case 1:
                    assert file.readline() == like.readline()
                case 2:
                    one, other = bytearray(chance.randrange(2 * PAGE)), bytearray()
                    other.extend(one)
                    assert file.readinto(one) == like.readinto(other)
                    assert one == other
                case 3:
                    back = -chance.randrange(500)
                    assert file.seek(back, 2) == like.seek(back, 2)
                case _:
                    size = chance.choice([0, 1, 7, 100, PAGE, PAGE + 1, 3 * PAGE])
                    assert file.read(size) == like.read(size)
            assert file.tell() == like.tell()
        assert file.seek(0) == 0
        assert list(file) == lines.splitlines(keepends=True)
        assert file.read() == b""
        file.seek(0)
        assert file.readuntil(b": xx") == lines[: lines.index(b": xx") + 4]
        mark = lines[PAGE - 30 : PAGE + 30]  # lies across two pages
        file.seek(PAGE - 300)
        assert file.readuntil(mark) == lines[PAGE - 300 : lines.index(mark, PAGE - 300) + len(mark)]
        file.seek(0)
        assert io.TextIOWrapper(file).read() == lines.decode()


def test_a_file_says_what_fsspecs_files_say(site: Site) -> None:
    url, fs = site.write("a.bin", DATA), over_http()

    file = fs.open(url, block_size=7, cache_type="bytes", cache_options={})

    assert (file.fs, file.path, file.size, file.blocksize, file.mode) == (fs, url, len(DATA), 7, "rb")
    assert file.full_name == f"cleancache::{url}"
    assert file.details["size"] == file.info()["size"] == len(DATA)
    assert file.details["version"] == file.version.hex()
    assert file.cache.name == "none"
    assert file.cache._fetch(3, 9) == DATA[3:9]
    assert file.readable()
    assert not file.writable()
    file.close()
    with pytest.raises(ValueError, match="closed"):
        file.read(1)
    with pytest.raises(ValueError, match="closed"):
        file.read(0)


def test_a_file_that_changed_gives_an_error_and_no_blend_F4(site: Site) -> None:
    url, fs = site.write("a.bin", DATA), over_http(readahead=0)
    file = fs.open(url)
    assert file.read(10) == DATA[:10]

    site.write("a.bin", NEWER)

    assert file.read(10) == DATA[10:20]  # the page at hand has the version of the open file
    file.seek(3 * PAGE)
    with pytest.raises(OSError, match=r"Stale|changed") as caught:
        file.read(10)
    assert caught.value.errno == errno.ESTALE
    assert fs.open(url).read() == NEWER


def test_a_file_that_told_nothing_starts_again_under_the_new_version_F4(site: Site) -> None:
    url, fs = site.write("a.bin", DATA), over_http()
    file, sized = fs.open(url), fs.open(url)
    assert sized.size == len(DATA)

    site.write("a.bin", NEWER)

    assert file.read() == NEWER
    with pytest.raises(OSError, match=r"Stale|changed") as caught:
        sized.read()
    assert caught.value.errno == errno.ESTALE


def test_a_pickled_file_opens_under_the_same_version_or_fails(site: Site) -> None:
    url, fs = site.write("a.bin", DATA), over_http()
    file = fs.open(url)
    file.seek(77)
    blob = pickle.dumps(file)

    twin = pickle.loads(blob)
    assert (twin.tell(), twin.read(), twin.version) == (77, DATA[77:], file.version)
    assert twin == file

    site.write("a.bin", NEWER)
    with pytest.raises(OSError, match=r"Stale|changed") as caught:
        pickle.loads(blob)
    assert caught.value.errno == errno.ESTALE


def test_threads_that_share_a_file_never_get_torn_pages(site: Site) -> None:
    data = b"".join(bytes([n]) * PAGE for n in range(16))
    url, fs = site.write("a.bin", data), over_http()

    def hop(seed: int) -> set[int]:
        chance, seen = random.Random(seed), set()
        for _ in range(500):
            file.seek(chance.randrange(16) * PAGE)
            seen.add(len(set(file.read(100))))
        return seen

    with fs.open(url) as file, ThreadPoolExecutor(4) as threads:
        assert set().union(*threads.map(hop, range(4))) == {1}


def test_lines_can_be_cut_short(site: Site) -> None:
    with over_http().open(site.write("a.txt", b"one\ntwo\nthree")) as file:
        assert [file.readline(2), file.readline(), file.readline(99), file.readline(), file.readline()] == [
            b"on",
            b"e\n",
            b"two\n",
            b"three",
            b"",
        ]
        file.seek(1)
        assert file.readinto(buffer := bytearray(100)) == 12
        assert bytes(buffer[:12]) == b"ne\ntwo\nthree"
