"""For the tests of the fsspec front end: S3 (moto) on loopback with a count of its requests, and a clean start."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.request import Request, urlopen

import pytest

from cleancache import registry
from cleancache.frontends import _process
from cleancache.frontends.fsspec import CleancacheFileSystem

BUCKET = "shelf"


@pytest.fixture(autouse=True)
def clean_start() -> Iterator[None]:
    """No instance, Reader or back end of an earlier test, and none left by this one."""
    yield
    CleancacheFileSystem.clear_instance_cache()
    _process.here().close()
    registry.default.close()


class S3:
    """A moto server; `options` are s3fs's, `requests` its methods and `ranges` the Range headers since `forget`."""

    def __init__(self, url: str, requests: Counter[str]) -> None:
        self.url = url
        self.requests = requests
        self.options: dict[str, Any] = {"key": "k", "secret": "s", "endpoint_url": url}

    def forget(self) -> None:
        """Count from 0."""
        self.requests.clear()


def _counting(app: Callable[..., Any], requests: Counter[str], lock: threading.Lock) -> Callable[..., Any]:
    def counted(environ: dict[str, Any], start: Any) -> Any:
        with lock:
            requests[environ["REQUEST_METHOD"]] += 1
        return app(environ, start)

    return counted


@contextmanager
def s3_server() -> Iterator[S3]:
    """An empty S3 with one bucket."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    inner: Any = server._server
    s3 = S3(f"http://{host}:{port}", Counter())
    inner.app = _counting(inner.app, s3.requests, threading.Lock())
    urlopen(Request(f"{s3.url}/moto-api/reset", method="POST")).close()  # its state is the process's
    boto3.client(
        "s3", endpoint_url=s3.url, aws_access_key_id="k", aws_secret_access_key="s", region_name="us-east-1"
    ).create_bucket(Bucket=BUCKET)
    try:
        yield s3
    finally:
        server.stop()
