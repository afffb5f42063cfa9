"""A file-system exerciser: random calls on files of one directory, each answer compared with a shadow copy in RAM.

    python -m tests.mount.exerciser SECONDS_OR_OPERATIONS SEED DIRECTORY [SECOND_DIRECTORY]

Two processes work at once, each on files of its own and, taking turns under a lock, on one of both; each call goes
through a directory chosen by chance (two mounts of one source), the source itself among them if it is named. One
seed, one run.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

MOST_BYTES = 200_000
FILES = 4


class Exerciser:
    """One process's part.  Raises: AssertionError, naming call and place of the first difference."""

    def __init__(self, directories: list[Path], seed: int, prefix: str) -> None:
        self.random = random.Random(seed)
        self.directories, self.prefix = directories, prefix
        self.shadow: dict[str, bytearray] = {}
        self.open: dict[tuple[str, int], int] = {}  # (file, directory) → descriptor kept open
        self.done = 0
        self.last: list[str] = []

    def step(self) -> None:
        """One call."""
        name = f"{self.prefix}{self.random.randrange(FILES)}"
        calls = [call for call, weight in CALLS for _ in range(weight)]
        call = self.random.choice(calls)
        if name not in self.shadow:
            call = Exerciser.create
        self.last = [*self.last[-30:], f"{self.done}: {call.__name__} {name}"]
        try:
            call(self, name)
        except OSError as error:
            if error.errno != errno.ENODEV:  # a mount with direct_io has no shared mappings
                raise
        self.done += 1

    def path(self, name: str) -> Path:
        return self.random.choice(self.directories) / name

    def span(self, name: str) -> tuple[int, int]:
        at = self.random.randrange(len(self.shadow[name]) + 5000)
        return at, self.random.choice((1, 17, 4096, 5000, self.random.randrange(1, 70_000)))

    def check(self, name: str, at: int, found: bytes, size: int, where: object) -> None:
        want = bytes(self.shadow[name][at : at + size])
        if found != want:
            first = next(
                (i for i, (a, b) in enumerate(zip(found, want, strict=False)) if a != b), min(len(found), len(want))
            )
            raise AssertionError(
                f"{where}: {len(found)} bytes at {at}, {len(want)} wanted of {len(self.shadow[name])}; "
                f"they differ from {at + first}; before that: {'; '.join(self.last)}"
            )

    def create(self, name: str) -> None:
        data = self.random.randbytes(self.random.randrange(MOST_BYTES))
        self.path(name).write_bytes(data)
        self.shadow[name] = bytearray(data)
        self.forget(name)

    def read(self, name: str) -> None:
        at, size = self.span(name)
        path = self.path(name)
        with path.open("rb", buffering=0) as file:
            found = os.pread(file.fileno(), size, at)
        self.check(name, at, found, size, path)

    def read_whole(self, name: str) -> None:
        path = self.path(name)
        self.check(name, 0, path.read_bytes(), MOST_BYTES * 2, path)

    def read_held(self, name: str) -> None:
        """Through a descriptor that stays open; only where this mount is the only way to change the file."""
        if len(self.directories) > 1:
            return self.read(name)
        fd = self.open.get((name, 0))
        if fd is None:
            fd = self.open[(name, 0)] = os.open(self.directories[0] / name, os.O_RDONLY)
        at, size = self.span(name)
        self.check(name, at, os.pread(fd, size, at), size, f"held {name}")
        return None

    def write(self, name: str) -> None:
        at, size = self.span(name)
        data = self.random.randbytes(size)
        with self.path(name).open("r+b", buffering=0) as file:
            assert os.pwrite(file.fileno(), data, at) == size
            assert os.pread(file.fileno(), size, at) == data, f"own write: {'; '.join(self.last)}"
        self._put(name, at, data)

    def _put(self, name: str, at: int, data: bytes) -> None:
        shadow = self.shadow[name]
        if at > len(shadow):
            shadow.extend(bytes(at - len(shadow)))
        shadow[at : at + len(data)] = data

    def append(self, name: str) -> None:
        data = self.random.randbytes(self.random.randrange(1, 9000))
        with self.path(name).open("ab", buffering=0) as file:
            file.write(data)
        self.shadow[name] += data
        if len(self.shadow[name]) > MOST_BYTES * 2:
            self.truncate(name)

    def truncate(self, name: str) -> None:
        size = self.random.randrange(MOST_BYTES)
        path = self.path(name)
        if self.random.random() < 0.5:
            os.truncate(path, size)
        else:
            with path.open("r+b") as file:
                file.truncate(size)
        shadow = self.shadow[name]
        del shadow[size:]
        shadow.extend(bytes(size - len(shadow)))

    def map_read(self, name: str) -> None:
        path = self.path(name)
        with path.open("rb") as file:
            if not self.shadow[name]:
                return
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                at, size = self.span(name)
                self.check(name, at, view[at : at + size], size, f"map {path}")

    def map_write(self, name: str) -> None:
        if not self.shadow[name]:
            return
        path = self.path(name)
        at = self.random.randrange(len(self.shadow[name]))
        data = self.random.randbytes(min(len(self.shadow[name]) - at, self.random.randrange(1, 20_000)))
        with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as view:
            view[at : at + len(data)] = data
            view.flush()
        self._put(name, at, data)

    def rename_over(self, name: str) -> None:
        data = self.random.randbytes(self.random.randrange(MOST_BYTES))
        path = self.path(name)
        new = path.with_name(f"{name}.new")
        new.write_bytes(data)
        new.rename(path)
        self.shadow[name] = bytearray(data)
        self.forget(name)

    def unlink(self, name: str) -> None:
        self.path(name).unlink()
        del self.shadow[name]
        self.forget(name)

    def link_away(self, name: str) -> None:
        path = self.path(name)
        other = path.with_name(f"{name}.link")
        os.link(path, other)
        at, size = self.span(name)
        with other.open("r+b", buffering=0) as file:
            data = self.random.randbytes(size)
            os.pwrite(file.fileno(), data, at)
        self._put(name, at, data)
        other.unlink()

    def size(self, name: str) -> None:
        path = self.path(name)
        assert path.stat().st_size == len(self.shadow[name]), f"size of {path}: {'; '.join(self.last)}"

    def punch(self, name: str) -> None:
        at, size = self.span(name)
        with self.path(name).open("r+b") as file:
            os.posix_fallocate(file.fileno(), at, size)
        shadow = self.shadow[name]
        shadow.extend(bytes(max(0, at + size - len(shadow))))

    def forget(self, name: str) -> None:
        for at in [at for at in self.open if at[0] == name]:
            os.close(self.open.pop(at))

    def close(self) -> None:
        for name in list(self.shadow):
            self.forget(name)


Call = Callable[[Exerciser, str], None]
CALLS: tuple[tuple[Call, int], ...] = (
    (Exerciser.read, 8),
    (Exerciser.read_whole, 4),
    (Exerciser.read_held, 4),
    (Exerciser.write, 5),
    (Exerciser.append, 2),
    (Exerciser.truncate, 2),
    (Exerciser.map_read, 2),
    (Exerciser.map_write, 2),
    (Exerciser.rename_over, 1),
    (Exerciser.unlink, 1),
    (Exerciser.link_away, 1),
    (Exerciser.size, 2),
    (Exerciser.punch, 1),
)


def shared_turn(directory: Path, turn: Path, own: random.Random) -> None:
    """A file that both processes change: read it, check that it is whole, write it anew; the lock is outside."""
    with turn.open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        number, size = (int(word) for word in (lock.read() or b"0 0").split())
        path = directory / "shared"
        if number:
            with path.open("rb") as file:
                found = file.read()
            assert found == pattern(number, size), f"{path}: turn {number} of {size} bytes is not what is read"
        number, size = number + 1, own.randrange(1, MOST_BYTES)
        if own.random() < 0.3:
            path.with_name("shared.new").write_bytes(pattern(number, size))
            path.with_name("shared.new").rename(path)
        else:
            path.write_bytes(pattern(number, size))
        lock.seek(0)
        lock.write(f"{number} {size}        ".encode())
        lock.flush()


def pattern(number: int, size: int) -> bytes:
    """What turn *number* writes."""
    word = f"{number:08d} ".encode()
    return (word * (size // len(word) + 1))[:size]


def work(operations: int, seed: int, directories: list[Path], part: int, turn: Path) -> int:
    """One process; the operations done."""
    exerciser = Exerciser(directories, seed * 2 + part, f"p{part}-")
    try:
        for at in range(operations):
            exerciser.step()
            if at % 50 == 49:
                shared_turn(exerciser.random.choice(directories), turn, exerciser.random)
    finally:
        exerciser.close()
        with contextlib.suppress(OSError):
            print(f"seed {seed} part {part}: {exerciser.done} operations", flush=True)
    return exerciser.done


def both(operations: int, seed: int, directories: list[Path], turn: Path, deadline_s: float = 3600.0) -> None:
    """Two processes with half the operations each.  Raises: AssertionError, if one of them found a difference."""
    turn.write_bytes(b"0 0")
    command = [sys.executable, "-m", "tests.mount.exerciser", str(operations // 2), str(seed)]
    parts = [
        subprocess.Popen([*command, str(part), str(turn), *map(str, directories)], stderr=subprocess.PIPE, text=True)
        for part in (0, 1)
    ]
    try:
        texts = [part.communicate(timeout=deadline_s)[1] for part in parts]
    finally:
        for part in parts:
            part.kill()
            part.wait()
    assert [part.returncode for part in parts] == [0, 0], "\n".join(texts)


if __name__ == "__main__":
    work(int(sys.argv[1]), int(sys.argv[2]), [Path(word) for word in sys.argv[5:]], int(sys.argv[3]), Path(sys.argv[4]))
