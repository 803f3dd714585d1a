"""One HTTP request, and its answer as a stream, under one deadline that nothing on the other side can stretch.

Rules: the deadline is over everything: finding the address, connecting, TLS, sending, headers, body, and whatever the
reader does in between. Every single receive is given the time that is left, so one byte a second does not help. A
token travels over TLS or to this machine only; certificates are always checked; a redirect leads to the same origin or
nowhere; proxies of the environment are not used; no encoding but the bundle's own is read, so nothing can expand. Any
failure here is an `OSError` or `http.client.HTTPException` that says what happened; the caller adds with whom.

What is refused: other schemes than http and https; a URL with a user, a query, a fragment or anything that is not plain
visible ASCII.

>>> Url.of("https://alice.example/results")
Url(scheme='https', host='alice.example', port=443, path='/results')
>>> Url.of("file:///etc/passwd")
Traceback (most recent call last):
...
ValueError: 'file:///etc/passwd' is no URL of an instance: only http and https are spoken
"""

from __future__ import annotations

import http.client
import io
import ipaddress
import queue
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, cast
from urllib.parse import urljoin, urlsplit

from artdag_fed.callables import said
from artdag_fed.errors import TransportError
from artdag_fed.names import shown
from artdag_fed.transports.http_wire import JSON_TYPE, strict_json

__all__ = ["Body", "Deadline", "Url", "exchange", "is_loopback"]

MOST_REDIRECTS: Final = 5
"""Redirects that are followed: one is a moved path, two are a habit; browsers stop at 20, curl's default is 50."""
MOST_HEAD_BYTES: Final = 64 << 10
"""Bytes of an answer's status line and headers, interim answers included; servers themselves stop at 8 to 64 KiB."""
MOST_REASON_BYTES: Final = 2048
"""Bytes that are read of the body of a refusal, to say why."""
SLICE: Final = 64 << 10  # bytes sent at once, so that a receiver that takes few at a time is noticed in time


class Deadline:
    """A point of time; `left()` is for time-outs."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds until then, more than 0; `TransportError` where it has passed."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise self.passed()
        return left

    def passed(self) -> TransportError:
        return TransportError(f"the deadline of {self.seconds:g} s passed")


class Url(NamedTuple):
    """Where a URL leads: its origin in the sense of RFC 6454 (the first three), and the path."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def of(cls, url: object) -> Url:
        """Read and check a URL; `ValueError` (or `TypeError`) where it is not one that an instance can have."""
        if not isinstance(url, str):
            raise TypeError(f"a URL is a str, not {type(url).__name__}")

        def bad(why: str) -> ValueError:
            # What may be a password is not repeated.
            return ValueError(f"{shown(url) if '@' not in url else 'what was given'} is no URL of an instance: {why}")

        # urlsplit drops line ends and tabs without a word, so this comes first.
        if not url.isascii() or not url.isprintable() or any(c in url for c in ' \\"<>^`{|}'):
            raise bad("spell other characters than plain ASCII as %XX, and names as punycode")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise bad(str(error)) from None
        if parts.scheme not in ("http", "https"):
            raise bad("only http and https are spoken")
        if "@" in parts.netloc:
            raise bad("it has a user in it; pass a token instead")
        if not parts.hostname or port == 0:
            raise bad("it names no host and port")
        if "?" in url or "#" in url:
            raise bad("it has a query or a fragment")
        if port is None:
            port = 443 if parts.scheme == "https" else 80
        return cls(parts.scheme, parts.hostname, port, parts.path)

    def keeps_tokens(self) -> bool:
        """Whether a token may travel there: over TLS, or to this machine."""
        return self.scheme == "https" or self.host == "localhost" or is_loopback(self.host)

    def __truediv__(self, path: str) -> Url:
        """The URL of one of the instance's own paths, each beginning with a slash."""
        return self._replace(path=self.path.rstrip("/") + path)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = {"http": 80, "https": 443}[self.scheme]
        return host if self.port == default else f"{host}:{self.port}"


class Body:
    """The body of an answer, as a binary file that can only be read. Broken off early is an error, never an end."""

    def __init__(self, response: http.client.HTTPResponse, deadline: Deadline) -> None:
        self._response = response
        self._deadline = deadline

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes (all, where it is negative); fewer only at the end."""
        self._deadline.left()
        try:
            data = self._response.read(None if size < 0 else size)
        except ValueError as error:  # a chunk of a negative size gets as far as that
            raise TransportError(f"its answer is not HTTP: {said(error)}") from None
        if len(data) < size and self._response.length:
            missing = self._response.length
            raise TransportError(f"the connection was closed {missing:,} bytes before the end that was announced")
        return data


@contextmanager
def exchange(
    where: Url, *, body: bytes | None, media_type: str, token: str | None, deadline: Deadline
) -> Iterator[Body]:
    """Send one request (POST with a body, else GET) and give the body of its answer; both are over afterwards.

    media_type: what the answer must be of. Redirects within the origin are followed: for a POST only those that keep
    it one (307, 308).
    """
    method = "GET" if body is None else "POST"
    for _ in range(MOST_REDIRECTS + 1):
        sock = _connected(where, token is not None, deadline)
        try:
            with _answered(sock, _head(where, method, body, media_type, token), body, deadline) as response:
                moved = _moved(response, where, method)
                if moved is None:
                    _check(response, media_type, deadline)
                    yield Body(response, deadline)
                    return
                where = moved
        finally:
            sock.close()
    raise TransportError(f"it redirected more than {MOST_REDIRECTS} times, at last to {shown(str(where))}")


# --- the request ------------------------------------------------------------------------------


def _head(where: Url, method: str, body: bytes | None, media_type: str, token: str | None) -> bytes:
    lines = [
        f"{method} {where.path or '/'} HTTP/1.1",
        f"Host: {where.authority}",
        f"Accept: {media_type}",
        "Accept-Encoding: identity",
        "User-Agent: artdag-fed",
        "Connection: close",
    ]
    if body is not None:
        lines += [f"Content-Type: {JSON_TYPE}", f"Content-Length: {len(body)}"]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


@contextmanager
def _answered(
    sock: socket.socket, head: bytes, body: bytes | None, deadline: Deadline
) -> Iterator[http.client.HTTPResponse]:
    """Send, and read the answer's status and headers."""
    left = memoryview(head if body is None else head + body)
    try:
        while left:
            sock.settimeout(deadline.left())
            with _in_time(deadline):
                left = left[sock.send(left[:SLICE]) :]
    except ConnectionError:
        pass  # a server that refuses may hang up before it has heard everything; it may have said why
    raw = _Received(sock, deadline)
    # All that HTTPResponse wants of a socket is makefile(): so each receive of it is one of ours.
    response = http.client.HTTPResponse(cast(socket.socket, raw))
    try:
        response.begin()
        raw.most = None
        yield response
    finally:
        response.close()


class _Received(io.RawIOBase):
    """What comes in, each receive with the time that is left; at most `most` bytes until that is None."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock = sock
        self._deadline = deadline
        self.most: int | None = MOST_HEAD_BYTES

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        self._sock.settimeout(self._deadline.left())
        with _in_time(self._deadline):
            count = self._sock.recv_into(buffer)
        if self.most is not None:
            self.most -= count
            if self.most < 0:
                raise TransportError(f"its headers are longer than {MOST_HEAD_BYTES:,} bytes")
        return count


@contextmanager
def _in_time(deadline: Deadline) -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise deadline.passed() from None


# --- the answer -------------------------------------------------------------------------------


def _moved(response: http.client.HTTPResponse, where: Url, method: str) -> Url | None:
    """Where a redirect leads, or None where the answer is none."""
    follows = (307, 308) if method == "POST" else (301, 302, 303, 307, 308)
    location = response.headers.get("Location")
    if response.status not in follows or location is None:
        return None
    try:
        moved = Url.of(urljoin(str(where), location))
    except ValueError:
        raise TransportError(f"it redirected to {shown(location)}, where nothing is fetched from") from None
    if moved[:3] != where[:3]:
        raise TransportError(f"it redirected to another origin, {shown(location)}: give that as the URL if it is right")
    return moved


def _check(response: http.client.HTTPResponse, media_type: str, deadline: Deadline) -> None:
    if response.status != 200:
        raise TransportError(f"it answered {response.status} {_reason(response, deadline)}".rstrip())
    for header in ("Content-Encoding", "Transfer-Encoding"):
        for value in response.headers.get_all(header, ()):
            if value.strip().lower() not in ("identity", *(["chunked"] if header == "Transfer-Encoding" else [])):
                raise TransportError(f"its answer is encoded as {shown(value)}, which was not asked for")
    if response.headers.get_content_type() != media_type:
        kind = response.headers.get("Content-Type", "something unnamed")
        raise TransportError(f"it answered with {shown(kind)} instead of {media_type}: is an instance served there?")


def _reason(response: http.client.HTTPResponse, deadline: Deadline) -> str:
    """Why it refused, as far as it says so in our way; else its own words for the status."""
    text: object = response.reason
    try:
        if response.headers.get_content_type() == JSON_TYPE and not response.headers.get("Content-Encoding"):
            text = strict_json(Body(response, deadline).read(MOST_REASON_BYTES))["error"]
    except (OSError, http.client.HTTPException, LookupError, TypeError, ValueError):
        pass  # the status is what counts
    return shown(text, 200)


# --- the connection ---------------------------------------------------------------------------


def _connected(where: Url, secret: bool, deadline: Deadline) -> socket.socket:
    """A connected socket, over TLS for https. secret: over plain http, refuse to reach any machine but this one."""
    sock = _reached(where, deadline)
    try:
        if where.scheme == "https":
            # No way to pass another context: a check that can be turned off will be.
            sock.settimeout(deadline.left())
            with _in_time(deadline):
                return ssl.create_default_context().wrap_socket(sock, server_hostname=where.host)
        if secret and not is_loopback(sock.getpeername()[0]):  # what a resolver said "localhost" is
            raise TransportError(f"{shown(where.host)} is not this machine: a token is sent over https only")
        return sock
    except BaseException:
        sock.close()
        raise


def _reached(where: Url, deadline: Deadline) -> socket.socket:
    """Connect to the first address that answers; each gets its share of the time, so a dead one does not eat it all."""
    addresses = _addresses(where.host, where.port, deadline)
    error: OSError = OSError("the name has no address")
    for count, (family, kind, protocol, _, address) in enumerate(addresses):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(deadline.left() / (len(addresses) - count))
            sock.connect(address)
            return sock
        except OSError as failed:
            sock.close()
            error = failed
        except BaseException:
            sock.close()
            raise
    deadline.left()
    raise error


def _addresses(host: str, port: int, deadline: Deadline) -> list[Any]:
    """What `socket.getaddrinfo` answers, in time. It takes no time-out, so a name is looked up in a thread, which ends
    when the resolver gives up; it holds nothing, and does not keep the process from ending."""
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (socket.gaierror, UnicodeError):
        pass  # not a number, then
    answers: queue.SimpleQueue[list[Any] | Exception] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:  # UnicodeError: a label longer than a name can have
            answers.put(error)

    threading.Thread(target=look_up, name="artdag-fed look-up", daemon=True).start()
    try:
        answer = answers.get(timeout=deadline.left())
    except queue.Empty:
        raise deadline.passed() from None
    if isinstance(answer, Exception):
        raise TransportError(f"the name {shown(host)} was not found: {said(answer)}") from answer
    return answer


def is_loopback(host: str) -> bool:
    """Whether `host` is an address of this machine alone. A name is none, since who resolves it decides."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
