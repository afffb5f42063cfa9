"""Mounts of URLs: HTTP, S3, SFTP; read-only, one version an open file, and one slow file stops no other."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from pathlib import Path

import pytest

from tests.mount.mounting import mount, mounted, stats
from tests.mount.servers import nginx, sshd
from tests.servers import FileServer
from tests.surfaces.servers import BUCKET, s3_server


@pytest.fixture
def web(tmp_path: Path) -> Path:
    """A directory for a web server, with files that are old."""
    root = tmp_path / "web"
    (root / "sub").mkdir(parents=True)
    for number in range(3):
        (root / f"f{number}").write_bytes(os.urandom(100_000 + number))
        os.utime(root / f"f{number}", (1e9, 1e9))
    (root / "sub" / "deep").write_bytes(b"deep")
    (root / "list").write_text("# what there is\nf0\nf1\nsub/deep\n")
    return root


def test_an_http_url_is_one_file(web: Path, where: Path, tmp_path: Path) -> None:
    with nginx(web, tmp_path) as url, mounted(f"{url}f0", where):
        assert os.listdir(where) == ["f0"]
        assert (where / "f0").read_bytes() == (web / "f0").read_bytes()
        assert (where / "f0").stat().st_size == 100_000
        assert (where / "f0").stat().st_mtime == 1e9


def test_a_list_of_files_gives_http_a_tree(web: Path, where: Path, tmp_path: Path) -> None:
    with nginx(web, tmp_path) as url, mounted(url, where, f"cleancache=zcache:64M,files={web}/list"):
        found = sorted(
            str(Path(folder, name).relative_to(where)) for folder, _, names in os.walk(where) for name in names
        )
        assert found == ["f0", "f1", "sub/deep"]
        assert (where / "sub" / "deep").read_bytes() == b"deep"
        assert not (where / "f2").exists()


def test_F1_a_changed_object_shows_at_the_next_open_and_a_held_one_keeps_its_version(
    web: Path, where: Path, tmp_path: Path
) -> None:
    with nginx(web, tmp_path) as url, mounted(url, where, f"cleancache=zcache:64M,files={web}/list"):
        old, new = (web / "f0").read_bytes(), os.urandom(150_000)
        with (where / "f0").open("rb", buffering=0) as held:
            assert held.read(1000) == old[:1000]
            assert (where / "f0").read_bytes() == old
            (web / "f0").write_bytes(new)

            assert (where / "f0").read_bytes() == new
            assert (where / "f0").stat().st_size == 150_000
            rest = b""
            number = 0
            try:
                while part := held.read(70_000):
                    rest += part
            except OSError as error:
                number = error.errno or 0
            assert number in (0, errno.ESTALE)  # what was not read before is gone at the source
            assert old[1000:].startswith(rest)


def test_a_url_cannot_be_written(web: Path, where: Path, tmp_path: Path) -> None:
    with nginx(web, tmp_path) as url, mounted(f"{url}f0", where):
        for attempt in (
            lambda: (where / "f0").write_bytes(b""),
            lambda: (where / "new").touch(),
            (where / "f0").unlink,
        ):
            with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is looked at below
                attempt()
            assert caught.value.errno == errno.EROFS


def test_the_second_read_of_a_url_comes_from_the_cache(web: Path, where: Path, tmp_path: Path) -> None:
    with nginx(web, tmp_path) as url, mounted(f"{url}f0", where):
        assert (where / "f0").read_bytes() == (web / "f0").read_bytes()
        before = stats(where)["stats"]["source_bytes"]
        assert (where / "f0").read_bytes() == (web / "f0").read_bytes()

        assert stats(where)["stats"]["source_bytes"] == before
        said = json.loads(os.getxattr(where / "f0", "user.cleancache.status"))
        assert (said["cached"], said["pages"], said["resident_pages"]) == (True, 2, 2)


@pytest.mark.process_wide("Thread-")
@pytest.mark.filterwarnings("ignore")
def test_an_s3_bucket_is_a_tree(where: Path) -> None:
    import boto3

    with s3_server() as s3:
        client = boto3.client(
            "s3", endpoint_url=s3.url, aws_access_key_id="k", aws_secret_access_key="s", region_name="us-east-1"
        )
        for name in ("data/a", "data/sub/b"):
            client.put_object(Bucket=BUCKET, Key=name, Body=name.encode() * 1000)
        secrets = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}
        options = f"cleancache=zcache:64M,option.client_kwargs.endpoint_url={s3.url}"
        with mounted(f"s3://{BUCKET}/data", where, options, **secrets):
            assert sorted(os.listdir(where)) == ["a", "sub"]
            assert (where / "sub" / "b").read_bytes() == b"data/sub/b" * 1000
            client.put_object(Bucket=BUCKET, Key="data/a", Body=b"new")
            assert (where / "a").read_bytes() == b"new"
            assert not (where / "c").exists()
        said = mount(f"s3://{BUCKET}-not/data", where, options, code=32, environ=secrets)
        assert "there is no such directory" in said


@pytest.mark.slow
def test_an_sftp_server_is_a_tree(tmp_path: Path, where: Path) -> None:
    root = tmp_path / "files"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "a").write_bytes(b"first" * 1000)
    with sshd(tmp_path) as (port, identity):
        options = (
            f"cleancache=zcache:64M,max_stale=1s,option.port={port},option.username=root,option.key_filename={identity}"
        )
        with mounted(f"sftp://127.0.0.1{root}", where, options):
            assert os.listdir(where) == ["sub"]
            assert (where / "sub" / "a").read_bytes() == b"first" * 1000
            (root / "sub" / "a").write_bytes(b"second")
            time.sleep(1.1)
            assert (where / "sub" / "a").read_bytes() == b"second"


def test_one_slow_file_stops_no_other(where: Path, tmp_path: Path) -> None:
    with FileServer({"/slow": b"s" * 1000, "/quick": b"q" * 1000}) as server:
        (tmp_path / "list").write_text("slow\nquick\n")
        with mounted(server.url("/"), where, f"cleancache=zcache:64M,files={tmp_path}/list"):
            assert (where / "quick").read_bytes() == b"q" * 1000
            gate = (where / "slow").open("rb", buffering=0)
            server.delay_s = 3.0
            readers = [threading.Thread(target=lambda: os.pread(gate.fileno(), 1000, 0)) for _ in range(3)]
            for reader in readers:
                reader.start()
            time.sleep(0.2)
            server.delay_s = 0.0
            begun = time.monotonic()
            assert (where / "quick").read_bytes() == b"q" * 1000
            took = time.monotonic() - begun
            for reader in readers:
                reader.join()
            gate.close()

            assert took < 1.5


def test_a_source_that_does_not_answer_is_said_at_once(where: Path) -> None:
    said = mount("http://127.0.0.1:9/none", where, code=32)

    assert "the source does not answer" in said
