"""The WSGI server of Python's library, with threads, and bounds on how long a client may take and how many there are.

Rules: one thread for each connection, at most `MOST_CLIENTS`; the others wait to be accepted. A client that says
nothing for `PATIENCE` seconds is hung up on. What goes wrong with one client is a line in the log, never a traceback,
and ends nothing else. No TLS: that is put before it.

>>> from artdag_fed.instance import Federation
>>> from artdag_fed.transports.http_server import app
>>> with Listener(app(Federation(), "alice"), "127.0.0.1", 0) as listener:
...     listener.url  # doctest: +ELLIPSIS
'http://127.0.0.1:...'
"""

from __future__ import annotations

import io
import logging
import socket
import sys
import threading
from socketserver import ThreadingMixIn
from typing import Any, Final, TextIO, cast
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import WSGIApplication

from artdag_fed.callables import said
from artdag_fed.names import shown
from artdag_fed.transports.http_connection import is_loopback

__all__ = ["MOST_CLIENTS", "PATIENCE", "Listener", "stays_here"]

log = logging.getLogger("artdag_fed")

MOST_CLIENTS: Final = 32
"""Connections that are answered at once: each takes a thread and the memory of a block of a bundle."""
PATIENCE: Final = 60.0
"""Seconds in which a client has to send or take something."""


def stays_here(host: str) -> bool:
    """Whether what listens at `host` is reached from this machine alone."""
    return host == "localhost" or is_loopback(host)


class Listener(ThreadingMixIn, WSGIServer):
    """A server of `application` at `host` and `port` (0: any that is free), which listens when it is made.

    `serve_forever()` answers until `shutdown()` is called or an exception comes; used with `with`, it is closed
    afterwards. Raises `OSError` where it cannot listen there. `application` is called in many threads.
    """

    daemon_threads = True  # the end of the program does not wait for a slow client: what it has got has no trailer

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

    def log_message(self, format: str, *args: Any) -> None:
        # What a client sent is text of a stranger.
        log.info("%s %s", self.client_address[0], shown(format % args, 200))

    def get_stderr(self) -> TextIO:
        return _LastLine()


class _LastLine(io.StringIO):
    """Where wsgiref writes the traceback of what an application raised: its last line says what it was."""

    def flush(self) -> None:
        lines = self.getvalue().splitlines()
        self.truncate(0)
        self.seek(0)
        if lines:
            log.warning("an answer broke off: %s", shown(lines[-1], 200))
