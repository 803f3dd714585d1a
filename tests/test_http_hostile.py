"""Servers that drip, lie, go on for ever or say nothing: each pull ends in time, in bounded memory, and keeps nothing.

Rules: the servers are raw sockets on loopback, so that nothing but the client keeps to HTTP. Each test names the peer
and the cause that the error must name.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import itertools
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from artdag_fed import BundleError, Federation, FederationError, Limits, Record, TransportError, pull
from artdag_fed.bundle import MAGIC, write_bundle
from artdag_fed.transports import http, http_connection
from tests.http_servers import Script, Told, answering, head

DEADLINE = 0.6  # seconds
JSON = "application/json"
SRC = Path(http.__file__).parents[2]


def bundle(count: int = 5, size: int = 100) -> bytes:
    stream = io.BytesIO()
    write_bundle(stream, (Record(f"c{n}", bytes(size), "mallory") for n in range(count)))
    return stream.getvalue()


def dripping(first: bytes, drops: Callable[[], Iterator[bytes]], pause: float = 0.02) -> Script:
    """Sends something, and then a drop every now and then, for as long as anyone listens."""

    def script(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(first)
        for drop in drops():
            if over.wait(pause):
                return
            connection.sendall(drop)

    return script


def flooding(first: bytes, flood: Callable[[], Iterator[bytes]]) -> Script:
    def script(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(first)
        for wave in flood():
            if over.is_set():
                return
            connection.sendall(wave)

    return script


def silent(connection: socket.socket, over: threading.Event) -> None:
    over.wait(10)


def forever(*parts: bytes) -> Callable[[], Iterator[bytes]]:
    return lambda: itertools.cycle(parts)


def letters(data: bytes) -> Callable[[], Iterator[bytes]]:
    """Each byte by itself, and the last one for ever."""
    return lambda: itertools.chain((data[n : n + 1] for n in range(len(data))), itertools.repeat(data[-1:]))


def endless_bundle(connection: socket.socket, over: threading.Event) -> None:
    """Records without end, each as it should be."""
    connection.sendall(head())
    file = connection.makefile("wb", buffering=0)
    write_bundle(file, (Record(f"c{n}", bytes(1000), "mallory") for n in itertools.count()))


def elsewhere(location: str, status: str = "302 Found") -> Script:
    return answering(head(f"Location: {location}", "Content-Length: 0", status=status))


def lying_block(size: int) -> bytes:
    """A bundle whose one block says that it has a payload of `size` bytes, and has none."""
    whole = bundle(1, 10)
    payload = len(Record("c0", bytes(10), "mallory").payload)
    at = whole.index(payload.to_bytes(8, "big"), len(MAGIC))
    return whole[:at] + size.to_bytes(8, "big") + whole[at + 8 : -44 - payload]


# (what the server does, the error, its cause). A script is run for each connection, after the request was read.
FETCHES: dict[str, tuple[Script, type[FederationError], str]] = {
    "says nothing": (silent, TransportError, "the deadline of 0.6 s passed"),
    "drips its status line": (dripping(b"", letters(b"HTTP/1.1 200 OK")), TransportError, "the deadline of"),
    "drips headers": (dripping(head()[:-2], letters(b"X-A: " + b"b" * 9999)), TransportError, "the deadline of"),
    "drips short headers": (dripping(head()[:-2], forever(b"X-A: b\r\n"), 0.05), TransportError, "the deadline of"),
    "drips interim answers": (dripping(b"", forever(b"HTTP/1.1 100 Continue\r\n\r\n")), TransportError, "the deadline"),
    "drips a body": (dripping(head(), letters(MAGIC + b"\0" * 9999)), TransportError, "the deadline of"),
    "drips chunks": (
        dripping(head("Transfer-Encoding: chunked"), forever(b"1\r\n", b"a", b"\r\n")),
        TransportError,
        "the deadline of",
    ),
    "drips a chunk's size": (
        dripping(head("Transfer-Encoding: chunked"), letters(b"0" * 9999)),
        TransportError,
        "the deadline of",
    ),
    "drips the reason of a refusal": (
        dripping(head(status="500 Sorry", kind=JSON), forever(b" ")),
        TransportError,
        "it answered 500 'Sorry'",
    ),
    "stops half-way": (dripping(head() + bundle()[:-20], forever(b"")), TransportError, "the deadline of"),
    "sends headers without end": (
        flooding(head()[:-2], forever(b"X-A: b\r\n" * 50)),
        TransportError,
        "got more than 100 headers",
    ),
    "sends one header without end": (flooding(head()[:-2] + b"X: ", forever(b"b" * 999)), TransportError, "long"),
    "sends a huge status line": (flooding(b"HTTP/1.1 200 ", forever(b"b" * 999)), TransportError, "long"),
    "sends 90 headers of 8,000 bytes": (
        answering(head(*(f"X-{n}: {'b' * 8000}" for n in range(90))), bundle()),
        TransportError,
        "its headers are longer than 65,536 bytes",
    ),
    "sends interim answers without end": (
        flooding(b"", forever(b"HTTP/1.1 100 Continue\r\n\r\n" * 99)),
        TransportError,
        "its headers are longer than",
    ),
    "sends noise without end": (flooding(head(), forever(b"noise" * 999)), BundleError, "no bundle"),
    "sends records without end": (endless_bundle, BundleError, r"Limits\.(records|bytes)"),
    "sends a huge record": (
        flooding(head() + lying_block(1 << 40), forever(bytes(1 << 16))),
        BundleError,
        r"Limits\.bytes",
    ),
    "says too much": (answering(head("Content-Length: 9999"), bundle()), TransportError, "bytes before the end that"),
    "says far too much": (
        answering(head(f"Content-Length: {1 << 62}"), bundle()[:-1]),
        TransportError,
        "bytes before the end that was announced",
    ),
    "says too little": (
        answering(head(f"Content-Length: {len(bundle()) - 9}"), bundle()),
        BundleError,
        "the bundle is cut off",
    ),
    "says too little for a trailer": (answering(head("Content-Length: 0"), bundle()), BundleError, "an empty stream"),
    "says two lengths": (
        answering(head("Content-Length: 9", f"Content-Length: {len(bundle())}"), bundle()),
        BundleError,
        "cut off",
    ),
    "claims a chunk too large": (
        answering(head("Transfer-Encoding: chunked"), b"ffffff\r\n", bundle()[:-1]),
        TransportError,
        "IncompleteRead",
    ),
    "claims a chunk below nothing": (
        answering(head("Transfer-Encoding: chunked"), b"-5\r\n", bundle()),
        TransportError,
        "its answer is not HTTP",
    ),
    "sends no number for a chunk": (
        answering(head("Transfer-Encoding: chunked"), b"size\r\n", bundle()),
        TransportError,
        "IncompleteRead",
    ),
    "adds something": (answering(head(), bundle() + b"!"), BundleError, "followed by something else"),
    "hangs up at once": (answering(), TransportError, "RemoteDisconnected|ConnectionResetError"),
    "hangs up in its headers": (answering(head()[:40]), FederationError, "cut off|instead of|empty"),
    "hangs up after its headers": (answering(head()), BundleError, "an empty stream"),
    "hangs up half-way": (answering(head(), bundle()[:200]), BundleError, "the bundle is cut off"),
    "does not speak HTTP": (answering(b"220 mail.example ESMTP\r\n"), TransportError, "BadStatusLine"),
    "sends control characters": (answering(b"\x1b[31m\x00\x07\r\n\r\n"), TransportError, r"BadStatusLine: \\x1b"),
    "redirects to itself": (elsewhere("/v1/bundle"), TransportError, "redirected more than 5 times"),
    "redirects to another port": (elsewhere("http://127.0.0.1:1/"), TransportError, "to another origin"),
    "redirects to another host": (elsewhere("//mallory.example/v1/bundle"), TransportError, "to another origin"),
    "redirects to https": (elsewhere("https://127.0.0.1/", "308 Moved"), TransportError, "to another origin"),
    "redirects to a file": (elsewhere("file:///etc/passwd"), TransportError, "where nothing is fetched from"),
    "redirects to ftp": (elsewhere("ftp://127.0.0.1/x"), TransportError, "where nothing is fetched from"),
    "redirects to data": (elsewhere("data:,x", "307 Now"), TransportError, "where nothing is fetched from"),
    "redirects with a user": (elsewhere("http://a:b@127.0.0.1/"), TransportError, "where nothing is fetched from"),
    "redirects into its head": (elsewhere("/x y\tHost: z"), TransportError, "where nothing is fetched from"),
    "redirects nowhere": (answering(head(status="302 Found")), TransportError, "it answered 302 'Found'"),
    "sends a gzip bomb": (
        answering(head("Content-Encoding: gzip"), gzip.compress(bytes(50_000_000))),
        TransportError,
        "its answer is encoded as 'gzip'",
    ),
    "hides a gzip bomb in chunks": (
        answering(head("Transfer-Encoding: gzip, chunked"), gzip.compress(bytes(50_000_000))),
        TransportError,
        "its answer is encoded as 'gzip, chunked'",
    ),
    "sends a page": (
        answering(head(kind="text/html"), b"<html>Please sign in to this network</html>"),
        TransportError,
        "it answered with 'text/html' instead of application/vnd.artdag-fed.bundle",
    ),
    "sends a page as a bundle": (answering(head(), b"<html>Please sign in</html>"), BundleError, "no bundle"),
    "sends JSON": (answering(head(kind=JSON), b"{}"), TransportError, "instead of application/vnd"),
    "sends nothing of a kind": (answering(b"HTTP/1.1 200 OK\r\n\r\n" + bundle()), TransportError, "something unnamed"),
    "refuses": (answering(head(status="403 No"), b"go away"), TransportError, "it answered 403 'No'"),
    "refuses with a reason": (
        answering(head(status="503 No", kind=JSON), b'{"error":"be back at\\n\\u202e noon"}'),
        TransportError,
        r"it answered 503 'be back at\\n\\u202e noon'",
    ),
    "refuses at length": (
        answering(head(status="503 No", kind=JSON), json.dumps({"error": "b" * 99_999}).encode()),
        TransportError,
        "it answered 503 'No'$",
    ),
    "refuses with a part": (answering(head(status="206 Partial"), bundle()), TransportError, "it answered 206"),
    "has nothing": (answering(head(status="204 No Content")), TransportError, "it answered 204"),
    "has a newer version": (answering(head(), b"artdag-fed bundle v2\n"), BundleError, "of version 2"),
}

HAVES: dict[str, tuple[Script, str]] = {
    "says nothing": (silent, "the deadline of 0.6 s passed"),
    "drips": (dripping(head(kind=JSON), forever(b" ")), "the deadline of 0.6 s passed"),
    "floods": (flooding(head(kind=JSON), forever(b" " * 9999)), "its answer is longer than the 1,280 bytes"),
    "hangs up": (answering(head("Content-Length: 99", kind=JSON), b'{"digests"'), "bytes before the end"),
    "sends a bundle": (answering(head(), bundle()), "instead of application/json"),
    "speaks of something else": (
        answering(head(kind=JSON), json.dumps({"digests": {"c2": "0" * 64}}).encode()),
        "'c2' was not asked about",
    ),
    "has a wrong digest": (
        answering(head(kind=JSON), json.dumps({"digests": {"c1": "0" * 63 + "A"}}).encode()),
        "is no digest",
    ),
    "has a list": (answering(head(kind=JSON), b'{"digests":["c1"]}'), "digests must be an object"),
    "has a number": (answering(head(kind=JSON), b'{"digests":{"c1":1e999}}'), "it has a number in it"),
    "says it twice": (
        answering(head(kind=JSON), b'{"digests":{"c1":"' + b"0" * 64 + b'","c1":"' + b"1" * 64 + b'"}}'),
        "a key is there twice",
    ),
    "nests": (answering(head(kind=JSON), b"[" * 1200), "nested too deep|Expecting value"),
    "is not UTF-8": (answering(head(kind=JSON), b'{"digests":{"\xff":""}}'), "utf-8"),
    "is empty": (answering(head(kind=JSON), b""), "its answer cannot be read"),
    "redirects a question": (elsewhere("/v1/have", "302 Found"), "it answered 302"),
    "redirects a question to itself": (elsewhere("/v1/have", "307 Temporary"), "redirected more than 5 times"),
}


@contextlib.contextmanager
def in_time(deadline: float = DEADLINE) -> Iterator[None]:
    """Whatever happens is over a second after the deadline, and leaves no thread behind."""

    def threads() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name != Told.__name__}

    before, began = threads(), time.monotonic()
    yield
    assert time.monotonic() - began < deadline + 1
    assert threads() <= before


@pytest.mark.parametrize("name", FETCHES)
def test_a_hostile_server_fails_its_own_pull_in_time_with_an_error_that_names_it(name: str) -> None:
    script, kind, cause = FETCHES[name]
    # Where something else than the deadline ends it, a slow machine has the time to get there.
    deadline = DEADLINE if "deadline" in cause or name.startswith("drips") else 10
    bob = Federation()
    with Told(script) as server, in_time(deadline):
        fetch = http.fetcher({"mallory": server.url}, deadline=deadline, limits=Limits(records=20_000, bytes=1 << 24))
        with pytest.raises(kind, match=rf"(?s)fetching from 'mallory' \({server.url}\) failed: .*({cause})") as failed:
            pull(bob, fetch, "mallory", {"mallory"}.__contains__)
    assert len(bob) == 0
    assert len(str(failed.value)) < 500 and str(failed.value).isprintable()


def test_a_redirect_is_followed_five_times_and_no_more() -> None:
    with Told(elsewhere("/v1/bundle")) as server, pytest.raises(TransportError, match="more than 5 times"):
        list(http.fetcher({"mallory": server.url})("mallory"))
    assert len(server.requests) == 1 + 5


@pytest.mark.parametrize("name", HAVES)
def test_a_hostile_answer_to_have_is_an_error_in_time_that_names_the_url(name: str) -> None:
    script, cause = HAVES[name]
    with Told(script) as server, in_time(), pytest.raises(TransportError) as failed:
        http.have(server.url, ["c1"], deadline=DEADLINE)
    assert re.match(rf"asking {server.url} failed: .*({cause})", str(failed.value)), failed.value
    assert len(str(failed.value)) < 500 and str(failed.value).isprintable()


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


CHILD = """
import sys
from artdag_fed import Federation, FederationError, Limits, pull
from artdag_fed.transports import http

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024

limits = Limits(records=20_000, bytes=1 << 23, record_bytes=1 << 22, header_bytes=1 << 20)
url = sys.argv[1]
try:  # what is loaded on the way is not counted
    pull(Federation(), http.fetcher({"mallory": "http://127.0.0.1:1"}), "mallory", bool)
except FederationError:
    pass
before = peak()
try:
    pull(Federation(), http.fetcher({"mallory": url}, deadline=3, limits=limits), "mallory", lambda peer: True)
except FederationError as error:
    print(peak() - before, type(error).__name__, error)
"""

FLOODS = [
    "sends headers without end",
    "sends one header without end",
    "sends interim answers without end",
    "sends noise without end",
    "sends records without end",
    "sends a huge record",
    "says far too much",
    "claims a chunk too large",
    "sends a gzip bomb",
    "refuses at length",
    "drips headers",
]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak memory of a process from /proc")
@pytest.mark.parametrize("name", FLOODS)
def test_what_a_hostile_server_sends_takes_memory_within_the_limits(name: str) -> None:
    with Told(FETCHES[name][0]) as server:
        command = [sys.executable, "-c", CHILD, server.url]
        done = subprocess.run(command, env={"PYTHONPATH": str(SRC)}, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    grown, *error = done.stdout.split(maxsplit=2)
    print(f"{name}: {float(grown):.1f} MiB, {error}")
    assert float(grown) < 8 + 16, (
        done.stdout
    )  # the limit on payloads held in memory, and what a block and a header need


def test_the_deadline_is_asked_for_the_time_that_is_left() -> None:
    deadline = http_connection.Deadline(0.05)
    assert 0 < deadline.left() <= 0.05
    while True:
        try:
            deadline.left()
        except TransportError as error:
            assert str(error) == "the deadline of 0.05 s passed"
            break
