"""What every test leaves behind is its own fault: descriptors, threads and stray log lines fail the test.

`cannot(reason)` is for tests that lack a privilege or a package: on a developer's machine they skip and say why,
under `CI=true` they fail, so that nothing is skipped unseen. A test that expects warnings of ours takes `caplog` or
carries `@pytest.mark.expects_logs`; one that uses a library with threads of its own for the whole process carries
`@pytest.mark.process_wide("name prefix", …)`.

Works with pytest-xdist (each worker looks at itself only) and with Hypothesis (autouse fixtures wrap all examples).
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading
import time
from collections.abc import Generator, Iterator
from typing import Any, NoReturn

import pytest

try:
    from hypothesis import settings
except ImportError:  # the suite of a part can be run without it
    pass
else:
    settings.register_profile("cleancache", deadline=None, print_blob=True)
    settings.load_profile("cleancache")

# threads that belong to the process, not to a test: fsspec's loop and its executor, the xdist channel, our named pools
PROCESS_WIDE = ("fsspecIO", "asyncio_", "execnet", "Dummy-", "cleancache-", "pymain")
LONG_REPR, LONG_LINE = 20_000, 500
GRACE_S = 10.0  # how long a closing thread or transport may still be seen after its test


def stretched(seconds: float) -> float:
    """What *seconds* of a machine with nothing else to do may take here: the suite alone keeps every processor busy."""
    return seconds * max(2.0, os.getloadavg()[0] / (os.cpu_count() or 1))


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background by a shell: children would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


def cannot(reason: str) -> NoReturn:
    """Skip the running test with *reason*; under `CI=true` fail it instead."""
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"cannot run here, and CI skips nothing: {reason}")
    pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_assertrepr_compare(left: object, right: object) -> Generator[None, Any, Any]:
    """Explain long contents as where `CI` is not set: with it pytest aligns megabytes line by line, for minutes."""
    if len(repr(left)) + len(repr(right)) < LONG_REPR:
        return (yield)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CI", raising=False)
        explained = yield
    return [[line[:LONG_LINE] for line in lines] for lines in explained]


def pytest_configure(config: pytest.Config) -> None:
    """Name the markers of this file."""
    config.addinivalue_line("markers", "expects_logs: warnings of cleancache are part of this test")
    config.addinivalue_line("markers", "process_wide(*prefixes): threads with these names outlive the test by right")


@pytest.fixture(autouse=True, scope="session")
def temporary_files_in_one_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Put what libraries leave in the temporary directory where pytest tidies up; children inherit it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("t")))
        patch.setattr("tempfile.tempdir", None)
        yield


class _Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {record.name}: {record.getMessage()}")


@pytest.fixture(autouse=True)
def no_stray_log_lines(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test in which cleancache warned although nobody expected it."""
    handler, logger = _Records(), logging.getLogger("cleancache")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
    expected = "caplog" in request.fixturenames or request.node.get_closest_marker("expects_logs") is not None
    if handler.lines and not expected:
        pytest.fail("unexpected log lines:\n" + "\n".join(handler.lines))


def _descriptors() -> dict[str, str]:
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            found[fd] = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue  # the one that listed the directory
    return found


def _leaked_descriptors(before: dict[str, str]) -> list[str]:
    # fsspec keeps its loop and the sessions of its instances for the whole process
    shared_loop = any(thread.name.startswith("fsspecIO") for thread in threading.enumerate())
    ignored = ("/dev/", "/proc/") + (("socket:", "anon_inode:", "pipe:") if shared_loop else ())
    return sorted(
        f"{fd} -> {target}"
        for fd, target in _descriptors().items()
        if before.get(fd) != target and not target.startswith(ignored) and ".hypothesis" not in target
    )


def _leaked_threads(before: set[threading.Thread], allowed: tuple[str, ...]) -> list[str]:
    return sorted(
        f"{thread.name}{' (daemon)' if thread.daemon else ''}"
        for thread in threading.enumerate()
        if thread not in before
        and thread.is_alive()
        and not (thread.daemon and thread.name.startswith(allowed))
        and not thread.name.startswith("asyncio_")  # the executor of fsspec's loop is not made of daemons
    )


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a descriptor or a thread behind."""
    allowed = PROCESS_WIDE
    for marker in request.node.iter_markers("process_wide"):
        allowed += tuple(marker.args)
    threads, descriptors = set(threading.enumerate()), _descriptors()
    yield
    end = time.monotonic() + GRACE_S
    while True:
        left = [f"thread {name}" for name in _leaked_threads(threads, allowed)]
        left += [f"descriptor {text}" for text in _leaked_descriptors(descriptors)]
        if not left:
            return
        if time.monotonic() > end:
            pytest.fail("left behind: " + ", ".join(left))
        gc.collect()
        time.sleep(0.01)
