"""Real servers for tests of URL mounts: nginx and OpenSSH's SFTP server of Debian, each a child on a free port."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import cannot

WAIT_S = 15.0


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _until_it_listens(child: subprocess.Popen[bytes], port: int) -> None:
    end = time.monotonic() + WAIT_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert child.poll() is None, f"{child.args!r} ended: {child.returncode}"
            assert time.monotonic() < end, f"{child.args!r} does not listen"
            time.sleep(0.02)


def _need(program: str, package: str) -> str:
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        cannot(f"{program} is missing: apt-get install {package}")
    return found


@contextmanager
def _child(command: list[str], port: int) -> Iterator[None]:
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _until_it_listens(child, port)
        yield
    finally:
        child.terminate()
        try:
            child.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


@contextmanager
def nginx(root: Path, scratch: Path) -> Iterator[str]:
    """nginx over *root*; its URL."""
    program, port = _need("nginx", "nginx-light"), free_port()
    config = scratch / "nginx.conf"
    config.write_text(
        f"daemon off; master_process off; pid {scratch}/nginx.pid; error_log {scratch}/error.log;\n"
        f"events {{ }}\n"
        f"http {{ access_log {scratch}/access.log; client_body_temp_path {scratch}/t1; proxy_temp_path {scratch}/t2;\n"
        f" fastcgi_temp_path {scratch}/t3; uwsgi_temp_path {scratch}/t4; scgi_temp_path {scratch}/t5;\n"
        f" keepalive_requests 100000; open_file_cache off;\n"
        f" server {{ listen 127.0.0.1:{port}; root {root}; }} }}\n"
    )
    if (
        os.geteuid() == 0
    ):  # a server of root works as nobody unless it is told otherwise, and cannot read the test's files
        config.write_text("user root;\n" + config.read_text())
    with _child([program, "-c", str(config), "-e", str(scratch / "error.log")], port):
        yield f"http://127.0.0.1:{port}/"


@contextmanager
def sshd(scratch: Path) -> Iterator[tuple[int, Path]]:
    """OpenSSH's server for the user of the tests; its port and the private key that it takes."""
    program, port = _need("sshd", "openssh-server"), free_port()
    keygen = _need("ssh-keygen", "openssh-client")
    for name in ("host", "user"):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(scratch / name)], check=True)
    (scratch / "authorized").write_text((scratch / "user.pub").read_text())
    (scratch / "authorized").chmod(0o600)
    (scratch / "sshd.conf").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {scratch}/host\nPidFile {scratch}/sshd.pid\n"
        f"AuthorizedKeysFile {scratch}/authorized\nStrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\n"
        f"Subsystem sftp internal-sftp\nPasswordAuthentication no\n"
    )
    os.makedirs("/run/sshd", exist_ok=True)
    with _child([program, "-D", "-e", "-f", str(scratch / "sshd.conf")], port):
        yield port, scratch / "user"
