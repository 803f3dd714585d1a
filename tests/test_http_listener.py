"""The server behind `serve`: whom it answers by what name, and how long it waits for a request."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from wsgiref.types import WSGIApplication

import pytest

from artdag_fed import Federation
from artdag_fed.transports import http, http_listener
from artdag_fed.transports.http_listener import MOST_CLIENTS, Listener, for_this_machine


@contextlib.contextmanager
def listening(application: WSGIApplication) -> Iterator[int]:
    """The port that it listens at."""
    with Listener(application, "127.0.0.1", 0) as listener:
        thread = threading.Thread(target=listener.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield listener.server_address[1]
        finally:
            listener.shutdown()
            thread.join()


def asked(port: int, *hosts: str, path: str = "/v1/bundle") -> tuple[int, bytes]:
    """What is answered to a request with these headers `Host`."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.putrequest("GET", path, skip_host=True)
        for host in hosts:
            connection.putheader("Host", host)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read()


SERVED = http.app(Federation({"c1": "a secret"}), "alice")


@pytest.mark.parametrize(
    "hosts",
    [
        ("evil.example",),
        ("evil.example:8000",),
        ("localhost.evil.example",),
        ("127.0.0.1.evil.example",),
        ("evil.example@localhost",),
        ("localhost@evil.example",),
        ("192.168.0.1",),
        ("0.0.0.0",),
        ("[::2]:80",),
        ("[::1",),
        ("",),
        ("localhost", "evil.example"),
        ("127.0.0.1:80:80",),
        ("127.0.0.1/evil",),
    ],
)
def test_a_website_whose_name_leads_to_this_machine_is_answered_nothing(hosts: tuple[str, ...]) -> None:
    with listening(for_this_machine(SERVED)) as port:
        for path in ("/v1/bundle", "/"):
            status, body = asked(port, *hosts, path=path)
            assert status == 421 and b"secret" not in body and b"alice" not in body
            assert "localhost" in json.loads(body)["error"]


@pytest.mark.parametrize(
    "hosts", [(), ("localhost",), ("LOCALHOST:80",), ("127.0.0.1",), ("127.1.2.3:80",), ("[::1]",), ("[::1]:8000",)]
)
def test_this_machine_is_answered_by_each_of_its_names(hosts: tuple[str, ...]) -> None:
    with listening(for_this_machine(SERVED)) as port:
        status, body = asked(port, *hosts)
    assert status == 200 and b"secret" in body


def test_clients_that_do_not_ask_in_time_make_room_for_one_that_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_listener, "HEAD_PATIENCE", 0.5)
    with listening(SERVED) as port, contextlib.ExitStack() as stack:

        def client() -> socket.socket:
            return stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))

        clients = [client() for _ in range(MOST_CLIENTS)]
        over, began = threading.Event(), time.monotonic()

        def drip() -> None:  # one is never silent, and never done
            with contextlib.suppress(OSError):
                clients[0].sendall(b"GET / HTTP/1.1\r\nX: ")
                while not over.wait(0.02):
                    clients[0].sendall(b"x")

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            assert asked(port, "localhost")[0] == 200
            for silent in clients:
                with contextlib.suppress(ConnectionError):
                    assert silent.recv(1) == b""
            assert time.monotonic() - began < 8
        finally:
            over.set()
            dripping.join()


def test_a_request_that_came_in_time_may_take_longer_than_that_to_be_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_listener, "HEAD_PATIENCE", 0.3)
    fed = Federation({f"c{i}": b"x" * 1_000_000 for i in range(20)})  # more than the system keeps for a connection
    with listening(http.app(fed, "alice")) as port:
        connection = HTTPConnection("127.0.0.1", port, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", "/v1/bundle")
            answer = connection.getresponse()
            answer.read(1)
            time.sleep(0.5)  # longer than a request has, so that the server meanwhile waits to send
            assert len(answer.read()) > 20_000_000


def test_what_comes_with_a_request_may_take_longer_than_the_request_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_listener, "HEAD_PATIENCE", 0.3)
    body = json.dumps({"cids": ["c1"]}).encode()
    with listening(SERVED) as port, socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(b"POST /v1/have HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
        client.sendall(f"Content-Length: {len(body)}\r\n\r\n".encode())
        time.sleep(0.5)  # the head is there in time
        client.sendall(body)
        assert b" 200 " in client.makefile("rb").readline()
