"""The limit follows the memory there is: `decide` by table and property, facts from trees that stand for machines."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cleancache.memory import Facts, Group, memory_allowed, pressure_path, read_facts
from cleancache.pressure import MIB, decide, floor_bytes

GIB = 1 << 30

BIG_HOST = Facts(total_bytes=64 * GIB, available_bytes=60 * GIB)


@pytest.mark.parametrize(
    ("limit", "ceiling", "used", "facts", "want"),
    [
        pytest.param(GIB, GIB, 0, Facts(), GIB, id="a kernel that says nothing bounds nothing"),
        pytest.param(GIB, GIB, GIB, BIG_HOST, GIB, id="room for all"),
        pytest.param(
            4 * GIB,
            4 * GIB,
            4 * GIB,
            Facts(64 * GIB, 0),
            3 * GIB,
            id="MemAvailable at nothing: the floor is given back",
        ),
        pytest.param(
            4 * GIB, 4 * GIB, 0, Facts(64 * GIB, 3 * GIB), 2 * GIB, id="MemAvailable less the floor, nothing held"
        ),
        pytest.param(
            4 * GIB, 4 * GIB, 2 * GIB, Facts(64 * GIB, GIB), 2 * GIB, id="at the floor exactly: what is held may stay"
        ),
        pytest.param(
            512 * MIB,
            512 * MIB,
            100 * MIB,
            Facts(64 * GIB, 60 * GIB, (Group(200 * MIB, 190 * MIB),)),
            94 * MIB,
            id="a group of 200 MiB with 10 left and a floor of 16",
        ),
        pytest.param(
            512 * MIB,
            512 * MIB,
            100 * MIB,
            Facts(64 * GIB, 60 * GIB, (Group(200 * MIB, 190 * MIB, 90 * MIB),)),
            184 * MIB,
            id="inactive files of the group count as room",
        ),
        pytest.param(
            512 * MIB,
            512 * MIB,
            100 * MIB,
            Facts(64 * GIB, 60 * GIB, (Group(8 * GIB, GIB), Group(200 * MIB, 220 * MIB))),
            64 * MIB,
            id="an ancestor over its limit counts too",
        ),
        pytest.param(GIB, GIB, MIB, Facts(64 * GIB, 0), 0, id="never below nothing"),
        pytest.param(0, 800, 0, Facts(), 100, id="rises by an eighth of the gap"),
        pytest.param(797, 800, 0, Facts(), 798, id="the last steps arrive"),
        pytest.param(900, 800, 0, Facts(), 800, id="a lowered ceiling holds at once"),
        pytest.param(
            GIB, GIB, 800 * MIB, Facts(64 * GIB, 10 * GIB, (), 35.0), 600 * MIB, id="stall where memory is tight: 3/4"
        ),
        pytest.param(
            GIB, GIB, 800 * MIB, Facts(64 * GIB, 60 * GIB, (), 35.0), GIB, id="a stranger's stall is not ours"
        ),
        pytest.param(GIB, GIB, 800 * MIB, Facts(64 * GIB, 10 * GIB, (), 4.9), GIB, id="a little stall is life"),
        pytest.param(
            100 * MIB, GIB, 400 * MIB, Facts(64 * GIB, 10 * GIB, (), 35.0), 100 * MIB, id="no rise while others wait"
        ),
    ],
)
def test_M3_decide(limit: int, ceiling: int, used: int, facts: Facts, want: int) -> None:
    assert decide(limit, ceiling, used, facts) == want


sizes = st.integers(0, 1 << 44)
groups = st.builds(Group, sizes, sizes, sizes)
all_facts = st.builds(
    Facts,
    st.none() | sizes,
    st.none() | sizes,
    st.lists(groups, max_size=3).map(tuple),
    st.none() | st.floats(0, 100),
)


@given(sizes, sizes, sizes, all_facts)
def test_M3_the_limit_lies_within_nothing_and_its_ceiling_and_rises_by_an_eighth(
    limit: int, ceiling: int, used: int, facts: Facts
) -> None:
    got = decide(min(limit, ceiling), ceiling, used, facts)

    assert 0 <= got <= ceiling
    assert got <= min(limit, ceiling) + -(-max(ceiling - limit, 0) // 8)
    for memory, room in facts.rooms():
        assert got <= max(min(limit, ceiling), room - floor_bytes(memory) + used, 0)


@given(sizes, sizes, all_facts)
def test_M3_it_falls_at_once(ceiling: int, used: int, facts: Facts) -> None:
    once = decide(ceiling, ceiling, used, facts)

    assert decide(ceiling, ceiling, used, facts) == once
    assert decide(once, ceiling, used, facts) == once


@given(sizes, st.integers(0, 1 << 40))
def test_M3_it_comes_back_when_the_pressure_ends(limit: int, ceiling: int) -> None:
    limit = min(limit, ceiling)
    for _ in range(300):
        limit = decide(limit, ceiling, 0, Facts())

    assert limit == ceiling


@given(sizes)
def test_M2_what_is_lacking_is_given_back_in_one_step(lacking: int) -> None:
    used = 1 << 45
    facts = Facts(1 << 46, floor_bytes(1 << 46) - lacking)

    assert used - decide(1 << 45, 1 << 45, used, facts) == lacking


# --- trees that stand for machines


def machine(root: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


MEMINFO = "MemTotal:       16777216 kB\nMemFree:         1048576 kB\nMemAvailable:    8388608 kB\nSwapTotal: 0 kB\n"
PSI = "some avg10={} avg60=0.00 avg300=0.00 total=12\nfull avg10=99.00 avg60=0.00 avg300=0.00 total=3\n"
V2_MOUNT = "30 23 0:28 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1_MOUNT = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"


def test_facts_of_a_host_without_groups(tmp_path: Path) -> None:
    root = machine(tmp_path, {"proc/meminfo": MEMINFO, "proc/pressure/memory": PSI.format("1.25")})

    assert read_facts(root) == Facts(16 * GIB, 8 * GIB, (), 1.25)
    assert memory_allowed(root) == 16 * GIB


def test_facts_of_a_machine_that_says_nothing(tmp_path: Path) -> None:
    assert read_facts(str(tmp_path)) == Facts()
    assert memory_allowed(str(tmp_path)) > 0


def test_facts_of_v2_take_the_own_group_and_each_ancestor(tmp_path: Path) -> None:
    own = "sys/fs/cgroup/user.slice/app.scope"
    root = machine(
        tmp_path,
        {
            "proc/meminfo": MEMINFO,
            "proc/pressure/memory": PSI.format("1.00"),
            "proc/self/mountinfo": V2_MOUNT,
            "proc/self/cgroup": "0::/user.slice/app.scope\n",
            f"{own}/memory.max": "max\n",
            f"{own}/memory.high": f"{GIB}\n",
            f"{own}/memory.current": f"{GIB // 2}\n",
            f"{own}/memory.stat": "anon 5\ninactive_anon 7\ninactive_file 4096\nactive_file 8192\n",
            f"{own}/memory.pressure": PSI.format("42.00"),
            "sys/fs/cgroup/user.slice/memory.max": f"{2 * GIB}\n",
            "sys/fs/cgroup/user.slice/memory.high": "max\n",
            "sys/fs/cgroup/user.slice/memory.current": f"{GIB}\n",
            "sys/fs/cgroup/memory.pressure": PSI.format("2.00"),
        },
    )

    assert read_facts(root) == Facts(
        16 * GIB, 8 * GIB, (Group(GIB, GIB // 2, 4096), Group(2 * GIB, GIB, 0)), stall_percent=42.0
    )
    assert memory_allowed(root) == GIB
    assert pressure_path(root) == f"{root}/{own}/memory.pressure"


def test_facts_of_v1_take_the_own_group_and_each_ancestor(tmp_path: Path) -> None:
    memory = "sys/fs/cgroup/memory"
    root = machine(
        tmp_path,
        {
            "proc/meminfo": MEMINFO,
            "proc/pressure/memory": PSI.format("3.00"),
            "proc/self/mountinfo": V1_MOUNT,
            "proc/self/cgroup": "9:name=systemd:/\n4:cpu,memory:/a/b\n0::/\n",
            f"{memory}/a/b/memory.limit_in_bytes": f"{200 * MIB}\n",
            f"{memory}/a/b/memory.usage_in_bytes": f"{150 * MIB}\n",
            f"{memory}/a/b/memory.stat": "inactive_file 1\ntotal_inactive_file 4096\n",
            f"{memory}/a/memory.limit_in_bytes": "9223372036854771712\n",
            f"{memory}/a/memory.usage_in_bytes": "9\n",
            f"{memory}/memory.limit_in_bytes": "9223372036854771712\n",
        },
    )

    assert read_facts(root) == Facts(16 * GIB, 8 * GIB, (Group(200 * MIB, 150 * MIB, 4096),), 3.0)
    assert memory_allowed(root) == 200 * MIB


@pytest.mark.parametrize(
    ("mounted_root", "own", "where"),
    [
        pytest.param("/docker/abc", "/docker/abc", "", id="a container that sees the host's path"),
        pytest.param("/docker/abc", "/docker/abc/worker", "worker", id="a group inside of it"),
        pytest.param("/docker/abc", "/elsewhere", "", id="a path that is not mounted here"),
        pytest.param("/", "/", "", id="a namespace of its own"),
        pytest.param("/..", "/../..", "", id="a process outside of the namespace's root"),
    ],
)
def test_facts_inside_a_container(tmp_path: Path, mounted_root: str, own: str, where: str) -> None:
    group = Path("sys/fs/cgroup") / where
    root = machine(
        tmp_path,
        {
            "proc/meminfo": MEMINFO,
            "proc/self/mountinfo": f"30 23 0:28 {mounted_root} /sys/fs/cgroup ro - cgroup2 cgroup rw\n",
            "proc/self/cgroup": f"0::{own}\n",
            f"{group}/memory.max": f"{GIB}\n",
            f"{group}/memory.current": "5\n",
        },
    )

    assert read_facts(root).groups == (Group(GIB, 5),)


@pytest.mark.parametrize("junk", ["", "max", "-3", "MemAvailable: kB", "some avg10=x", "\0\0", "4 4 4\n" * 9])
def test_facts_survive_files_of_another_shape(tmp_path: Path, junk: str) -> None:
    names = ["proc/meminfo", "proc/pressure/memory", "sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory.current"]
    root = machine(tmp_path, dict.fromkeys([*names, "sys/fs/cgroup/memory.stat", "sys/fs/cgroup/memory.high"], junk))
    machine(tmp_path, {"proc/self/mountinfo": junk + "\n" + V2_MOUNT, "proc/self/cgroup": junk + "\n0::/\n"})

    facts = read_facts(root)

    assert facts.groups == () or junk.startswith("4")
    assert 0 <= decide(GIB, GIB, 0, facts) <= GIB


def test_facts_of_this_machine_are_plausible() -> None:
    facts = read_facts()

    assert facts.total_bytes is not None
    assert facts.available_bytes is not None
    assert 0 < facts.available_bytes <= facts.total_bytes
    assert 0 < memory_allowed() <= facts.total_bytes
