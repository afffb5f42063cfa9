"""Forks at bad moments."""

from __future__ import annotations

from tests.attacks.children import run

CHILD_MAPS_WHERE_THE_ARENA_WAS = """
import mmap, os
maps = []
os.register_at_fork(after_in_child=lambda: maps.extend(mmap.mmap(-1, 16 << 20) for _ in range(16)))  # before ours

from cleancache.handle import Handle
from cleancache.store import Store

store = Store(256 << 20)
store.put(Handle(bytes(16), bytes(24), 0), b"parent's")
pid = os.fork()
if not pid:
    os._exit(any(each[0] or each[-1] for each in maps))
status = os.waitpid(pid, 0)[1]
store.close()
print(os.waitstatus_to_exitcode(status))
"""


def test_T2_X28_a_child_does_not_unmap_what_came_to_lie_where_the_arena_was() -> None:
    assert run(CHILD_MAPS_WHERE_THE_ARENA_WAS).strip() == "0"  # -11: the child's own memory was gone
