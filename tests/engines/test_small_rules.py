"""Rules that need a few lines each: pool ids, bounds of the codecs, the end of the interpreter, the user's signals."""

from __future__ import annotations

import ast
import gc
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from random import Random

import pytest

import cleancache
from cleancache import codec
from cleancache.backend import Stats
from cleancache.errors import SpecError
from cleancache.handle import Handle, Scope, private_pool, shared_pool
from cleancache.pool import Pool
from cleancache.registry import Registry
from cleancache.spec import Tier, parse_size, parse_stack, stack_text
from cleancache.store import Store
from cleancache.testing import Shelf, check_sums
from tests.conftest import cannot

POOL = b"one-pool" * 2


def test_I2_private_pool_ids_are_128_random_bits_and_never_come_again() -> None:
    ids = {private_pool() for _ in range(10_000)} | {Pool(Shelf()).id for _ in range(100)}

    assert len(ids) == 10_100
    assert {len(one) for one in ids} == {16}
    for bit in range(128):
        share = sum(int.from_bytes(one, "big") >> bit & 1 for one in ids) / len(ids)
        assert 0.45 < share < 0.55, f"bit {bit} of the ids is set in {share:.0%}"


@pytest.mark.parametrize("name", ["lz4", "zstd"])
def test_P9_D2_D4_D5_a_bomb_is_stopped_at_the_length_that_was_promised(name: str) -> None:
    try:
        chosen = codec.load(name)
    except SpecError as error:
        cannot(str(error))
    assert chosen.compress is not None
    bomb = chosen.compress(bytes(1 << 26))
    assert len(bomb) < 1 << 20

    assert codec.decompress(chosen.number, bomb, 4096) is None
    assert codec.decompress(chosen.number, bomb, 1 << 26) == bytes(1 << 26)
    assert codec.decompress(chosen.number, chosen.compress(b"x" * 100), 4096) is None, "D5: too short"


def test_P9_D4_a_foreign_zstd_frame_that_states_its_size_is_bounded() -> None:
    try:
        import zstandard
    except ImportError:
        cannot("zstandard is not installed")
    codec.load("zstd")
    frame = zstandard.ZstdCompressor(write_content_size=True).compress(bytes(1 << 26))

    assert codec.decompress(codec.load("zstd").number, frame, 4096) is None


def test_D3_an_unknown_codec_number_is_no_page() -> None:
    assert all(codec.decompress(number, b"abc", 3) is None for number in (3, 7, 255, 65535))


def test_M11_A9_room_that_is_used_again_never_shows_what_it_held() -> None:
    store = Store(1 << 20, segment_bytes=16_384)
    for turn in range(30):
        old = bytes([0xA0 + turn]) * 4000
        for page in range(300):
            store.put(Handle(POOL, bytes(24), page), old)
        store.flush(Scope(POOL))
        for page in range(40):
            short = Handle(POOL, b"short-ob" * 3, page)
            want = bytes([turn]) * (1 + page * 7)
            assert store.put(short, want)
            assert store.get(short) == want
        store.flush(Scope(POOL))
    store.close()


PROGRAM = """
import threading
from cleancache.handle import Handle
from cleancache.registry import default
slot = default.connect("zcache:8M")
def work(n):
    while True:
        for page in range(500):
            slot.put(Handle(bytes(16), bytes([n]) * 24, page), bytes(60_000))
for n in range(3):
    threading.Thread(target=work, args=(n,), daemon=True).start()
import time; time.sleep(0.3)
"""


def test_X31_T6_the_interpreter_ends_at_once_and_prints_nothing() -> None:
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, timeout=30, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert time.monotonic() - began < 30


def test_T5_the_users_signals_and_time_outs_are_left_alone() -> None:
    import socket

    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    timeout = socket.getdefaulttimeout()
    registry = Registry()
    pool = Pool(registry.connect("zcache:8M"))
    pool.put(Handle(pool.id, bytes(24), 0), b"page")

    assert {number: signal.getsignal(number) for number in signal.valid_signals()} == before
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()
    assert socket.getdefaulttimeout() == timeout
    pool.close()
    registry.close()


def test_S30_a_slow_fill_that_a_flush_overtook_is_not_put() -> None:
    pool = Pool(Shelf())
    handle = Handle(pool.id, bytes(24), 0)
    mark = pool.mark(handle.object)  # the fill begins: it reads its bytes from a slow source

    pool.flush(Scope(pool.id, handle.object))

    assert pool.land(handle, b"the bytes that were read", mark) is False
    assert pool.get(handle) is None
    pool.close()


def test_T3_X32_a_finaliser_that_uses_the_store_inside_its_own_change_deadlocks_nothing() -> None:
    store = Store(512 << 10, segment_bytes=16_384)
    handles = [Handle(POOL, bytes(24), page) for page in range(64)]
    seen: list[bytes | None] = []

    class Cyclic:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            store.put(handles[0], b"from a finaliser")
            seen.append(store.get(handles[1]))
            store.flush(Scope(*handles[2]))

    def work() -> None:
        for turn in range(300):
            Cyclic()
            for handle in handles:
                store.put(handle, bytes([turn % 251]) * 900)
            store.flush(Scope(*handles[3]))
            assert store.get(handles[3]) is None

    before = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    worker = threading.Thread(target=work, name="worker", daemon=True)
    try:
        worker.start()
        worker.join(60)
    finally:
        gc.set_threshold(*before)
    assert not worker.is_alive(), "X32: a finaliser waits for the lock that its own thread holds"
    assert seen
    check_sums(store.stats())
    store.close()


def test_T7_decisions_are_made_by_monotonic_time_that_comes_from_outside() -> None:
    walls = {}
    for path in Path(cleancache.__file__).parent.rglob("*.py"):
        names = re.findall(r"\btime\.(?:time|time_ns|sleep)\(", path.read_text())
        if names:
            walls[path.relative_to(Path(cleancache.__file__).parent).as_posix()] = names

    # file systems and servers are asked in their own time, which is wall time, and umount waits for the kernel
    theirs = ("source/", "cli/", "frontends/fuse/files.py", "frontends/unmount.py")
    assert {name for name in walls if not name.startswith(theirs)} == set()


def test_A6_stack_texts_sizes_and_uuids_come_back_from_their_text() -> None:
    rng = Random(6)
    for _ in range(2000):
        word = "".join(rng.choice("abz09%:+=/@,'| \"ü-_.") for _ in range(rng.randint(1, 12)))
        tiers = (Tier("zcache", (("codec", word),), word), Tier("tmem", (), None))
        assert parse_stack(stack_text(tiers)) == tiers
        pool = rng.randbytes(16)
        assert shared_pool(uuid.UUID(bytes=pool)) == shared_pool(str(uuid.UUID(bytes=pool)).upper()) == pool
        size = rng.randrange(1 << 40)
        assert parse_size(str(size)) == size


@pytest.mark.parametrize(
    ("law", "stats"),
    [
        ("R1", Stats(gets=1)),
        ("R2", Stats(puts=2, stored=1)),
        ("R3", Stats(puts=1, stored=1, left={}, resident_pages=0)),
        ("R4", Stats(used_bytes={"pages": 5}, charged_bytes={"a": 4})),
        ("R4", Stats(used_bytes={"pages": 5}, charged_bytes={"a": 5}, limit_bytes=4, resident_pages=None)),
        ("R4", Stats(limit_bytes=5, ceiling_bytes=4)),
        ("R5", Stats(logical_bytes=1, unique_bytes=2)),
        ("R5", Stats(used_bytes={"pages": 999}, unique_bytes=10, resident_pages=1, puts=1, stored=1, left={})),
        ("N3", Stats(gets=1, misses={"/home/user": 1})),
    ],
)
def test_N1_R1_R2_R3_R4_R5_each_sum_rule_can_fail(law: str, stats: Stats) -> None:
    with pytest.raises(AssertionError, match=law):
        check_sums(stats)


def test_N2_a_counter_that_falls_is_noticed() -> None:
    with pytest.raises(AssertionError, match="N2"):
        check_sums(Stats(), Stats(gets=1, hits=1))


def test_P10_D3_nothing_in_the_product_turns_bytes_into_code() -> None:
    found = []
    for path in Path(cleancache.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [node.func.id] if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else []
            bad = {"pickle", "marshal", "shelve", "yaml", "dill", "cloudpickle", "eval", "exec", "compile"} & set(names)
            found += [f"{path.name}:{getattr(node, 'lineno', 0)}: {name}" for name in bad]

    assert found == []
