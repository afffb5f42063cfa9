"""The relay of the kit does what it is told between a client and a real server (asyncio, sockets on loopback)."""

from __future__ import annotations

from http.client import HTTPException
from typing import Any
from urllib.request import urlopen

import pytest

from cleancache.testing.relay import Relay
from tests.servers import FileServer

BODY = bytes(range(256)) * 40


def fetch(relay: Relay, timeout: float = 60.0) -> bytes:
    with urlopen(f"http://127.0.0.1:{relay.here}/a", timeout=timeout) as reply:
        data: bytes = reply.read()
        return data


@pytest.mark.parametrize(
    ("options", "outcome"),
    [
        ({}, "whole"),
        ({"delay_s": 0.01}, "whole"),
        ({"flip_at": 5000}, "turned"),
        ({"cut_after": 3000}, "error"),
        ({"is_black_hole": True}, "error"),
    ],
    ids=lambda value: str(value),
)
def test_a_relay(options: dict[str, Any], outcome: str) -> None:
    with FileServer({"/a": BODY}) as server, Relay(server.port, **options) as relay:
        if outcome == "error":
            with pytest.raises((OSError, HTTPException)):
                fetch(relay, timeout=1.0)
            return
        got = fetch(relay)

    assert len(got) == len(BODY)
    assert sum(one != other for one, other in zip(got, BODY, strict=True)) == (outcome == "turned")
    assert relay.connections == 1
