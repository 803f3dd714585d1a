"""The WSGI server of Python's library, with threads, and bounds on how long a client may take and how many there are.

Rules: one thread for each connection, at most `MOST_CLIENTS`; the others wait to be accepted. A request has to be here
to the end of its headers within `HEAD_PATIENCE` seconds in all; after that a client that neither sends nor takes
anything for `PATIENCE` seconds is hung up on. What goes wrong with one client is a line in the log, never a traceback,
and ends nothing else. No TLS: that is put before it.

What is not bounded: how long an answer takes in all, for one who takes a little of it in time, and how often one comes
again. So whoever can reach it and wants to can keep others out, without a token, too: in earnest, put a server that is
made for that before it.

>>> from artdag_fed.instance import Federation
>>> from artdag_fed.transports.http_server import app
>>> with Listener(app(Federation(), "alice"), "127.0.0.1", 0) as listener:
...     listener.url  # doctest: +ELLIPSIS
'http://127.0.0.1:...'
"""

from __future__ import annotations

import io
import json
import logging
import re
import socket
import sys
import threading
import time
from collections.abc import Iterable
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import Any, Final, TextIO, cast
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from artdag_fed.callables import said
from artdag_fed.names import shown
from artdag_fed.transports.http_connection import is_loopback
from artdag_fed.transports.http_wire import JSON_TYPE

__all__ = ["HEAD_PATIENCE", "MOST_CLIENTS", "PATIENCE", "Listener", "for_this_machine", "stays_here"]

log = logging.getLogger("artdag_fed")

MOST_CLIENTS: Final = 32
"""Connections that are answered at once: each takes a thread and the memory of a block of a bundle."""
PATIENCE: Final = 60.0
"""Seconds in which a client has to send or take something."""
HEAD_PATIENCE: Final = 5.0
"""Seconds for a request line and its headers in all: they come in one packet, which may be lost twice on its way."""

_HOST: Final = re.compile(r"(?:\[([^]]*)\]|([^:\[\]]*))(?::[0-9]*)?")


def stays_here(host: str) -> bool:
    """Whether what listens at `host` is reached from this machine alone."""
    return host == "localhost" or is_loopback(host)


def for_this_machine(application: WSGIApplication) -> WSGIApplication:
    """The application for requests that name this machine itself as the host that they are for; 421 to others.

    Whoever opens a website lets it ask the servers of this machine, and it may read what they answer to its own name.
    Its owner can have that name lead to 127.0.0.1; but a browser says in `Host` which name it was.
    """

    def checked(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        host = environ.get("HTTP_HOST")  # a browser always sends one
        found = None if host is None else _HOST.fullmatch(host.lower())
        if host is None or (found is not None and stays_here(found[1] or found[2])):
            return application(environ, start_response)
        why = json.dumps({"error": "without a token this is for localhost, by that name or its address"}).encode()
        status = HTTPStatus.MISDIRECTED_REQUEST
        headers = [("Content-Type", JSON_TYPE), ("Content-Length", str(len(why)))]
        start_response(f"{status.value} {status.phrase}", headers)
        return [why]

    return checked


class Listener(ThreadingMixIn, WSGIServer):
    """A server of `application` at `host` and `port` (0: any that is free), which listens when it is made.

    `serve_forever()` answers until `shutdown()` is called or an exception comes; used with `with`, it is closed
    afterwards. Raises `OSError` where it cannot listen there. `application` is called in many threads.
    """

    daemon_threads = True  # the end of the program does not wait for a slow client: what it has got has no trailer
    request_queue_size = (
        MOST_CLIENTS  # as many may wait: with Python's 5 the system lets the others try again in seconds
    )

    def __init__(self, application: WSGIApplication, host: str, port: int) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._places = threading.BoundedSemaphore(MOST_CLIENTS)
        try:
            super().__init__((host, port), _Handler)
        except (OSError, UnicodeError) as error:  # the latter: a host that is no name
            why = error.strerror if isinstance(error, OSError) and error.strerror else said(error)
            raise OSError(f"cannot listen at {shown(host)}, port {port}: {why}") from error
        self.set_app(application)

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = cast("tuple[str, int]", self.server_address[:2])
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def process_request(self, request: Any, client_address: Any) -> None:
        self._places.acquire()
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread was started to give it back
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        log.info("the client %s went: %s", shown(client_address), "" if error is None else shown(said(error), 200))


class _Handler(WSGIRequestHandler):
    timeout = PATIENCE

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self._arriving = _Arriving(self.connection, HEAD_PATIENCE)
        self.rfile = io.BufferedReader(self._arriving)

    def parse_request(self) -> bool:
        try:
            return super().parse_request()
        finally:
            self._arriving.until = None
            self.connection.settimeout(PATIENCE)

    def log_message(self, format: str, *args: Any) -> None:
        # What a client sent is text of a stranger.
        log.info("%s %s", self.client_address[0], shown(format % args, 200))

    def get_stderr(self) -> TextIO:
        return _LastLine()


class _Arriving(io.RawIOBase):
    """What a connection receives, within so many seconds in all; once `until` is None, as the connection has it."""

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self._connection = connection
        self.until: float | None = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        if self.until is not None:
            left = self.until - time.monotonic()
            if left <= 0:
                raise TimeoutError("its request took too long")
            self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


class _LastLine(io.StringIO):
    """Where wsgiref writes the traceback of what an application raised: its last line says what it was."""

    def flush(self) -> None:
        lines = self.getvalue().splitlines()
        self.truncate(0)
        self.seek(0)
        if lines:
            log.warning("an answer broke off: %s", shown(lines[-1], 200))
