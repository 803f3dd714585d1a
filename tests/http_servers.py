"""Servers on loopback for the tests of HTTP: one that runs a WSGI application, and one that does as it is told.

Rules: each listens on a port of its own and is gone with its threads when its context ends; what goes wrong in it is in
`.errors`, not on the terminal.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import traceback
from collections.abc import Callable, Iterator
from socketserver import ThreadingMixIn
from typing import Any, TypeVar
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import WSGIApplication
from wsgiref.validate import validator


class Serving(ThreadingMixIn, WSGIServer):
    """A real WSGI server: a thread for each request, joined at its end."""

    errors: list[str]

    def handle_error(self, request: Any, client_address: Any) -> None:
        self.errors.append(traceback.format_exc())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Quiet(WSGIRequestHandler):
    server: Serving

    def log_message(self, format: str, *args: Any) -> None: ...

    def get_stderr(self) -> Any:
        return self

    def write(self, text: str) -> None:
        self.server.errors.append(text)

    def flush(self) -> None: ...

    def writelines(self, lines: Any) -> None:
        self.server.errors.extend(lines)


Server = TypeVar("Server", bound=WSGIServer)


@contextlib.contextmanager
def running(server: Server) -> Iterator[Server]:
    """A server that answers, in a thread of its own, until the context ends; closed afterwards."""
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def serving(application: WSGIApplication, tls: ssl.SSLContext | None = None) -> Iterator[Serving]:
    server = make_server("127.0.0.1", 0, validator(application), Serving, _Quiet)
    server.errors = []
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    with running(server):
        yield server


Script = Callable[[socket.socket, threading.Event], None]
"""What a server does with one connection; the event tells when the test is over."""


class Told:
    """A server that does as it is told. `.requests`: those that came, `.closed`: set when a client hung up."""

    def __init__(self, script: Script, *, read: bool = True, buffer: int = 0) -> None:
        self.requests: list[bytes] = []
        self.closed = threading.Event()
        self.over = threading.Event()
        self._script = script
        self._read = read
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.02)
        if buffer:  # bytes that it takes unread; the system makes the smallest that it can of a 1
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self._threads: list[threading.Thread] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Told:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _start(self, target: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, name=Told.__name__)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self.over.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = self._listener.accept()
                self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(5)  # nothing in a test takes longer, and no thread may hang
        with connection, contextlib.suppress(OSError):
            if self._read:
                self.requests.append(_request(connection))
            self._script(connection, self.over)
            # Without this the connection could be reset before the client has read all of the answer.
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
        self.closed.set()


def _request(connection: socket.socket) -> bytes:
    """The request, head and body."""

    def received() -> bytes:
        if data := connection.recv(65536):
            return data
        raise ConnectionResetError("the client hung up")

    data = b""
    while b"\r\n\r\n" not in data:
        data += received()
    head, _, body = data.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    while len(body) < length:
        body += received()
    return head + b"\r\n\r\n" + body


def answering(*parts: bytes) -> Script:
    """Sends this and hangs up."""

    def script(connection: socket.socket, over: threading.Event) -> None:
        for part in parts:
            connection.sendall(part)

    return script


def head(*lines: str, status: str = "200 OK", kind: str = "application/vnd.artdag-fed.bundle") -> bytes:
    """The head of an answer."""
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Type: {kind}", *lines, "", ""]).encode()
