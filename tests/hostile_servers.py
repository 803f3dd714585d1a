"""Servers that drip, lie, go on for ever or say nothing.

Rules: they are raw sockets on loopback, so that nothing but the client keeps to HTTP. Each names the cause that the
error must name.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator

from artdag_fed import BundleError, FederationError, Record, TransportError
from artdag_fed.bundle import MAGIC, write_bundle
from tests.http_servers import Script, Told, answering, head

DEADLINE = 0.6  # seconds
JSON = "application/json"


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


@contextlib.contextmanager
def in_time(deadline: float = DEADLINE) -> Iterator[None]:
    """Whatever happens is over a second after the deadline, and leaves no thread behind."""

    def threads() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name != Told.__name__}

    before, began = threads(), time.monotonic()
    yield
    assert time.monotonic() - began < deadline + 1
    assert threads() <= before
