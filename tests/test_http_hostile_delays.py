"""Servers, names and connections that keep a client waiting: each call ends in time.

Rules: the servers are raw sockets on loopback, so that nothing but the client keeps to HTTP.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Any

import pytest

from artdag_fed import TransportError
from artdag_fed.transports import http, http_connection
from tests.hostile_servers import DEADLINE, JSON, bundle, dripping, in_time, letters, silent
from tests.http_servers import Told, answering, head

LONG = [f"{n:0128}" for n in range(10_000)]  # a request of more than the buffers of a connection hold


def test_a_server_that_does_not_read_the_request_ends_in_time() -> None:
    deadline = pytest.raises(TransportError, match=r"the deadline of 0.6 s passed")
    with Told(silent, read=False, buffer=1) as server, in_time(), deadline:
        http.have(server.url, LONG, deadline=DEADLINE)


def test_a_server_that_refuses_before_it_has_read_the_request_is_understood() -> None:
    def script(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(head("Content-Length: 18", status="401 No", kind=JSON) + b'{"error":"begone"}')
        connection.close()  # with all of the request unread, so that the client is told by a reset

    with Told(script, read=False, buffer=1) as server, pytest.raises(TransportError, match=r"answered 401 'begone'"):
        http.have(server.url, LONG, deadline=5)


def test_a_name_that_takes_for_ever_to_look_up_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    over, real = threading.Event(), socket.getaddrinfo

    def stuck(host: Any, port: Any, *rest: Any, **more: Any) -> Any:
        if not more.get("flags"):
            over.wait(10)
        return real(host, port, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", stuck)
    began = time.monotonic()
    with pytest.raises(TransportError, match=r"'mallory'.* failed: the deadline of 0.6 s passed"):
        list(http.fetcher({"mallory": "http://localhost:1"}, deadline=DEADLINE)("mallory"))
    assert time.monotonic() - began < DEADLINE + 1
    over.set()
    for thread in threading.enumerate():
        if thread.name == "artdag-fed look-up":
            thread.join(5)
            assert not thread.is_alive()


def test_a_connection_that_is_never_accepted_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as filling:
        port = full.getsockname()[1]
        for _ in range(4):  # until the queue is full, and the next one is not answered
            waiting = filling.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        with in_time(), pytest.raises(TransportError, match=r"'mallory'.*the deadline of 0.6 s passed"):
            list(http.fetcher({"mallory": f"http://127.0.0.1:{port}"}, deadline=DEADLINE)("mallory"))


@pytest.mark.parametrize("drops", [b"", b"\x16\x03\x01"], ids=["silent", "dripping"])
def test_a_tls_handshake_that_is_never_finished_ends_in_time(drops: bytes) -> None:
    script = dripping(b"", letters(drops + b"\x40\x00" + b"\0" * 999)) if drops else silent
    with Told(script, read=False) as server, in_time(), pytest.raises(TransportError, match=r"the deadline of 0.6 s"):
        list(http.fetcher({"mallory": server.url.replace("http:", "https:")}, deadline=DEADLINE)("mallory"))


def test_a_reader_that_takes_its_time_does_not_stretch_the_deadline() -> None:
    with Told(answering(head(), bundle())) as server:
        records = http.fetcher({"mallory": server.url}, deadline=0.3)("mallory")
        assert next(records).cid == "c0"
        time.sleep(0.35)  # this is the reader's own work
        with pytest.raises(TransportError, match=r"'mallory'.*the deadline of 0.3 s passed"):
            next(records)


def test_the_deadline_is_asked_for_the_time_that_is_left() -> None:
    deadline = http_connection.Deadline(0.05)
    assert 0 < deadline.left() <= 0.05
    while True:
        try:
            deadline.left()
        except TransportError as error:
            assert str(error) == "the deadline of 0.05 s passed"
            break
