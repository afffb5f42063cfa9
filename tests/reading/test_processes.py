"""Processes: exits with reads under way, children of a process that reads, many ranges side by side."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import textwrap
import time

from cleancache.pool import Pool
from cleancache.reader import Reader
from cleancache.source import source_for
from tests.servers import FileServer, http_file_system

CONTENT = random.Random(5).randbytes(3_000_000)


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_X31_a_process_ends_at_once_while_it_reads_ahead(server: FileServer) -> None:
    server.objects["/a"] = CONTENT
    done = python(
        """
        import sys, time, fsspec, threading
        from cleancache.backend import Absent
        from cleancache.pool import Pool
        from cleancache.reader import Reader
        from cleancache.source import source_for

        reader = Reader(source_for(fsspec.filesystem("http")), Pool(Absent()), page_size=65536)
        opened = reader.open(sys.argv[1])
        reader.read(opened, 0, 1000)
        assert any(thread.name == "cleancache-reader" for thread in threading.enumerate())
        print(time.time())
        """,
        server.url("/a"),
    )
    ended = time.time()

    assert (done.returncode, done.stderr) == (0, "")
    assert ended - float(done.stdout) < 5  # a second of ours, the rest is the interpreter on a busy machine


def test_import_of_the_reader_brings_no_file_system_library() -> None:
    done = python(
        """
        import sys
        import cleancache.reader, cleancache.source
        print(sorted({"fsspec", "aiohttp", "s3fs", "asyncio"} & set(sys.modules)))
        """
    )

    assert done.stdout.strip() == "[]", done.stderr


def test_many_places_are_fetched_side_by_side(server: FileServer, open_pool: Pool) -> None:
    server.objects["/a"] = CONTENT
    reader = Reader(source_for(http_file_system()), open_pool, page_size=4096, readahead=0)
    url = server.url("/a")
    opened = reader.open(url)
    server.delay_s = 0.25
    ranges = [(at, at + 100) for at in range(0, 3_000_000, 500_000)]

    got = reader.read_ranges(opened, ranges)

    assert got == [CONTENT[start:stop] for start, stop in ranges]
    assert server.count("GET") == 6
    assert server.most_at_once > 1


def test_T1_a_child_of_a_process_with_sources_in_use_reads_files(path: str, reader: Reader) -> None:
    content = reader.fetch(path)
    for _ in range(5):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = 0 if reader.fetch(path) == content else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
