"""An instance or an open file that a child inherits or is sent reads right bytes, however it starts (law I14)."""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest

from tests.conftest import cannot
from tests.surfaces import forked
from tests.surfaces.servers import BUCKET, S3, clean_start, s3_server
from tests.surfaces.web import Site, serving

__all__ = ["clean_start"]
STACK = "zcache:16M"
DATA = random.Random(1).randbytes(200_000)
# CPython 3.12 warns of a fork beside threads; that is what this file is about
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with serving(tmp_path) as site:
        yield site


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_server() as server:
        yield server


@pytest.fixture(params=["fork", "forkserver", "spawn"])
def workers(request: pytest.FixtureRequest) -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context(request.param)
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        yield pool
    if request.param == "forkserver":
        from multiprocessing.forkserver import _forkserver

        _forkserver._stop()  # type: ignore[attr-defined]  # the only way to end it before the process does


def test_an_instance_sent_to_a_worker_reads_there_I14(workers: Any, site: Site, s3: S3) -> None:
    url = site.write("a.bin", DATA)
    http = fsspec.filesystem("cleancache", target_protocol="http", stack=STACK)
    store = fsspec.filesystem("cleancache", target_protocol="s3", target_options=s3.options, stack=STACK)
    store.pipe_file(f"{BUCKET}/a", DATA)
    assert http.cat_file(url) == store.cat_file(f"{BUCKET}/a") == DATA  # loops, sessions and pages are there before

    for fs, path in ((http, url), (store, f"{BUCKET}/a")):
        for answer in [workers.submit(forked.read_all, fs, path) for _ in range(3)]:
            whole, found, of_cat, opened = answer.result(60)
            assert whole == of_cat == opened == DATA
            assert found == [path]
        assert workers.submit(forked.read_async, fs, path).result(60) == (DATA, len(DATA))


def test_an_open_file_sent_to_a_worker_goes_on_there(workers: Any, site: Site) -> None:
    fs = fsspec.filesystem("cleancache", target_protocol="http", stack=STACK)
    with fs.open(site.write("a.bin", DATA)) as file:
        file.read(1000)

        assert workers.submit(forked.read_file, file).result(60) == (1000, DATA[1000:])


def in_a_child(act: Callable[[], Any]) -> int:
    """Run *act* in a forked child; its exit status (a hang is ended by SIGALRM)."""
    pid = os.fork()
    if pid == 0:  # pragma: no cover - in the child
        signal.alarm(30)
        try:
            os._exit(0 if act() else 1)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(2)
    return os.waitpid(pid, 0)[1]


def test_a_forked_child_uses_nothing_inherited_I14(site: Site, s3: S3) -> None:
    url = site.write("a.bin", DATA)
    http = fsspec.filesystem("cleancache", target_protocol="http", stack=STACK)
    store = fsspec.filesystem("cleancache", target_protocol="s3", target_options=s3.options, stack=STACK)
    given = fsspec.filesystem("cleancache", fs=fsspec.filesystem("http"), stack=STACK)
    store.pipe_file(f"{BUCKET}/a", DATA)
    cases = ((http, url), (store, f"{BUCKET}/a"), (given, url))
    for fs, path in cases:
        assert forked.read_all(fs, path)[0] == DATA
    file = http.open(url)
    assert file.read(10) == DATA[:10]
    target = http.fs

    def child() -> bool:
        good = all(forked.read_all(fs, path)[0] == DATA for fs, path in cases)
        good = good and file.read(10) == DATA[10:20] and file.read() == DATA[20:]
        return good and http.fs is not target and forked.read_async(http, url)[0] == DATA

    assert in_a_child(child) == 0
    assert file.read() == DATA[10:]
    assert http.fs is target


def test_a_child_forked_while_threads_read_never_hangs_I14(site: Site) -> None:
    url = site.write("a.bin", DATA)
    fs = fsspec.filesystem("cleancache", target_protocol="http", stack=STACK)
    assert fs.cat_file(url) == DATA
    is_over = threading.Event()

    def read() -> None:
        while not is_over.is_set():
            fs.cat_ranges([url] * 8, [n * 9999 for n in range(8)], [n * 9999 + 70_000 for n in range(8)])
            fs._shared().write([url]).end()

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            assert in_a_child(lambda: fs.cat_file(url) == DATA and fs.cat([url]) == {url: DATA}) == 0
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def test_an_open_file_of_another_version_is_an_error_in_the_child_F4(site: Site) -> None:
    url = site.write("a.bin", DATA)
    file = fsspec.filesystem("cleancache", target_protocol="http", stack=STACK, readahead=0).open(url)
    assert file.read(10) == DATA[:10]
    site.write("a.bin", DATA[::-1] + b"longer")

    def child() -> bool:
        file.seek(150_000)
        try:
            file.read(10)
        except OSError as problem:
            return problem.errno == errno.ESTALE
        return False

    assert in_a_child(child) == 0
    file.close()


LOADER = """
import sys
sys.path.append("/usr/lib/python3/dist-packages")  # Debian's torch; what is installed here comes first
try:
    import torch
    from torch.utils.data import DataLoader, Dataset
except ImportError as problem:
    print(f"no torch: {problem}")
    sys.exit(77)
import fsspec

class Rows(Dataset):
    def __init__(self, url, options):
        self.fs, self.path = fsspec.url_to_fs(url, **options)
        self.file = None
    def __len__(self):
        return 64
    def __getitem__(self, n):
        if self.file is None:
            self.file = self.fs.open(self.path)
        self.file.seek(n * 1000)
        return torch.tensor(list(self.file.read(1000)))

if __name__ == "__main__":
    url, method, folder = sys.argv[1:]
    torch.save({"weights": torch.arange(50000)}, folder + "/model.pt")
    with fsspec.open(url.replace("a.bin", "model.pt"), stack="zcache:16M") as file:
        assert torch.load(file)["weights"].tolist() == list(range(50000))
    rows = Rows(url, {"stack": "zcache:16M"})
    first = rows[0].tolist()       # the parent has read: loops, sessions and locks are inherited by fork
    rows.file = None if method != "fork" else rows.file
    loader = DataLoader(rows, batch_size=4, num_workers=2, multiprocessing_context=method, persistent_workers=True)
    for epoch in range(2):
        got = [row.tolist() for batch in loader for row in batch]
        whole = rows.fs.cat_file(rows.path)
        assert got == [list(whole[n * 1000 : n * 1000 + 1000]) for n in range(64)], epoch
    assert first == got[0]
    print("read", len(got))
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_torch_data_loader_with_two_workers_reads_right(method: str, site: Site, tmp_path: Path) -> None:
    script = tmp_path / "loader.py"
    script.write_text(textwrap.dedent(LOADER))
    url = site.write("a.bin", DATA)

    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), f"cleancache::{url}", method, str(site.folder)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    if done.returncode == 77:
        cannot(f"{done.stdout.strip()}; Debian has it as python3-torch for Python 3.11")
    assert (done.returncode, done.stdout) == (0, "read 64\n"), done.stderr[-2000:]
