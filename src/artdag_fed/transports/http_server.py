"""An instance as a WSGI application: its bundle, which results it has, some of them, and a page for people.

Rules: it reads the instance and writes nothing. Whoever passes `authorize` (everyone, where there is none) gets all
that `export` with the same `trusted` would give; a result that has no bytes is not offered. A bundle is sent block by
block as it is read, so an answer takes the memory of one block; where reading fails on the way, what was sent has no
trailer, and counts as broken wherever it arrives. Requests are bounded and read strictly. A refusal is a short JSON
text, `{"error": ...}`, that tells nothing of the instance; what went wrong in here is in the log.

What it leaves to the WSGI server: TLS, how long a client may take, how many there may be.

>>> from artdag_fed.instance import Federation
>>> application = app(Federation({"c1": [1, 2.5]}), "alice")
>>> def start_response(status, headers):
...     print(status)
>>> application({"REQUEST_METHOD": "HEAD", "PATH_INFO": "/v1/bundle"}, start_response)
200 OK
[]
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from http import HTTPStatus
from typing import NamedTuple
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment
from wsgiref.util import application_uri

from artdag_fed.bundle import bundle_chunks
from artdag_fed.callables import Sign, Trust, check_callable
from artdag_fed.errors import CodecError
from artdag_fed.federation import export
from artdag_fed.instance import Federation, cache_of
from artdag_fed.names import Cid, PeerId, check_peer, shown
from artdag_fed.record import Record
from artdag_fed.transports.http_page import PAGE_HEADERS, page_of
from artdag_fed.transports.http_wire import (
    BUNDLE_PATH,
    BUNDLE_TYPE,
    HAVE_PATH,
    JSON_TYPE,
    MOST_REQUEST_BYTES,
    PAGE_PATH,
    PAGE_TYPE,
    TOKEN,
    digests,
    read_asked,
)

__all__ = ["app"]

log = logging.getLogger("artdag_fed")

METHODS = {PAGE_PATH: ("GET", "HEAD"), BUNDLE_PATH: ("GET", "HEAD", "POST"), HAVE_PATH: ("POST",)}


class _Answer(NamedTuple):
    """What is sent: a body, or the records of which it is made."""

    media_type: str
    body: bytes | Generator[Record, None, None]
    headers: tuple[tuple[str, str], ...] = ()


class _Refusal(Exception):
    """An answer that is not what was asked for."""

    def __init__(self, status: HTTPStatus, why: str, *headers: tuple[str, str]) -> None:
        super().__init__(why)
        self.status = status
        self.headers = headers


def app(
    instance: Federation | Callable[[], Federation],
    peer_id: PeerId,
    *,
    trusted: Trust | None = None,
    sign: Sign | None = None,
    authorize: Callable[[str | None], bool] | None = None,
) -> WSGIApplication:
    """A WSGI application that offers the results of `instance` in the name of `peer_id`.

    instance: a `Federation`, or a callable that gives one for each request. It is read from as many threads as the
    server has. trusted, sign: as for `export`. authorize: `authorize(token)` with the bearer token of the request, or
    None where it has none; only True lets it pass, and what it raises is answered with 500. Compare tokens with
    `hmac.compare_digest`. Without it, everyone who can reach the server may read.

    Mount it at any path: there people find a page about what it offers; `docs/wire-format.md` has the requests and
    answers. Raises `InvalidName` and `TypeError`.
    """
    check_peer(peer_id)
    if not isinstance(instance, Federation) and not callable(instance):
        raise TypeError(f"instance must be a Federation or a callable giving one, not {type(instance).__name__}")
    for name, value in (("trusted", trusted), ("sign", sign), ("authorize", authorize)):
        check_callable(name, value, optional=True)

    def current() -> Federation:
        return instance if isinstance(instance, Federation) else instance()

    def offered(cids: Iterable[Cid] | None) -> Generator[Record, None, None]:
        """What `export` gives, without what has no bytes: one odd object in memory must not silence an instance."""
        return _with_bytes(iter(export(current(), peer_id, cids, trusted=trusted)), sign)

    def found(cids: tuple[Cid, ...]) -> dict[Cid, str]:
        fed = current()
        bundle = export(fed, peer_id, cids, trusted=trusted)
        held = cache_of(fed).held(bundle.cids)
        known = {cid: held[cid].digest for cid in bundle.cids if cid in held}
        # In memory a digest may not have been asked for yet: then the result is encoded, this once for each question.
        unknown = [cid for cid, digest in known.items() if not digest]
        made = {record.cid: record.digest for record in _with_bytes(export(fed, peer_id, unknown), None)}
        return {cid: digest or made[cid] for cid, digest in known.items() if digest or cid in made}

    def described(environ: WSGIEnvironment) -> bytes:
        return page_of(
            cache_of(current()),
            peer_id,
            trusted=trusted,
            url=application_uri(environ),
            signed=sign is not None,
            guarded=authorize is not None,
        ).encode()

    def answer(environ: WSGIEnvironment) -> _Answer:
        """`_Refusal` where what was asked for is not given."""
        path, method = environ.get("PATH_INFO") or PAGE_PATH, environ["REQUEST_METHOD"]
        if path not in METHODS:
            raise _Refusal(HTTPStatus.NOT_FOUND, f"nothing is here: an instance answers at {', '.join(METHODS)}")
        if method not in METHODS[path]:
            allowed = ", ".join(METHODS[path])
            raise _Refusal(HTTPStatus.METHOD_NOT_ALLOWED, f"only {allowed}", ("Allow", allowed))
        # Before the body is read: a stranger does not make the server read.
        if authorize is not None and authorize(_token(environ)) is not True:
            raise _Refusal(
                HTTPStatus.UNAUTHORIZED, "a token that is valid here is needed", ("WWW-Authenticate", "Bearer")
            )
        if path == PAGE_PATH:
            return _Answer(PAGE_TYPE, described(environ), PAGE_HEADERS)
        cids = _asked(environ) if method == "POST" else None
        if path == HAVE_PATH:
            return _Answer(JSON_TYPE, digests(found(cids if cids is not None else ())))
        return _Answer(BUNDLE_TYPE, offered(cids))

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        status = HTTPStatus.OK
        try:
            given = answer(environ)
        except _Refusal as refusal:
            status, given = refusal.status, _Answer(JSON_TYPE, _error(str(refusal)), refusal.headers)
        except Exception:
            log.exception("answering %s %s failed", environ.get("REQUEST_METHOD"), shown(environ.get("PATH_INFO")))
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            given = _Answer(JSON_TYPE, _error("this failed here: the log of the server has it"))
        headers = [("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"), *given.headers]
        headers.append(("Content-Type", given.media_type))
        if isinstance(given.body, bytes):
            headers.append(("Content-Length", str(len(given.body))))
        start_response(f"{status.value} {status.phrase}", headers)
        if environ["REQUEST_METHOD"] == "HEAD":
            return []
        # What is raised on the way ends the connection: the WSGI server logs it, and what was sent has no trailer.
        return [given.body] if isinstance(given.body, bytes) else _sent(given.body)

    return application


# --- the request ------------------------------------------------------------------------------


def _token(environ: WSGIEnvironment) -> str | None:
    scheme, _, token = environ.get("HTTP_AUTHORIZATION", "").strip().partition(" ")
    token = token.strip()
    return token if scheme.lower() == "bearer" and TOKEN.fullmatch(token) else None


def _asked(environ: WSGIEnvironment) -> tuple[Cid, ...]:
    """The cids in the body. Its length has to be said before: what is too long is not read."""
    length = environ.get("CONTENT_LENGTH") or ""
    if not (length.isascii() and length.isdigit() and len(length) < 20):
        raise _Refusal(HTTPStatus.LENGTH_REQUIRED, "the request needs a Content-Length")
    left = int(length)
    if left > MOST_REQUEST_BYTES:
        raise _Refusal(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"a request has at most {MOST_REQUEST_BYTES:,} bytes: ask several times",
        )
    parts = []
    while left:
        part = environ["wsgi.input"].read(left)
        if not part:
            raise _Refusal(HTTPStatus.BAD_REQUEST, f"the request ended {left:,} bytes before its Content-Length")
        parts.append(part)
        left -= len(part)
    try:
        return read_asked(b"".join(parts))
    except ValueError as error:
        raise _Refusal(HTTPStatus.BAD_REQUEST, f"the request cannot be read: {error}") from None


# --- the answer -------------------------------------------------------------------------------


def _error(why: str) -> bytes:
    return json.dumps({"error": why}).encode()


def _with_bytes(records: Iterable[Record], sign: Sign | None) -> Generator[Record, None, None]:
    for record in records:
        try:
            record.payload  # noqa: B018  # it is made when it is first asked for
        except CodecError as error:
            log.warning("the result of %s is not offered: %s", record.cid, error)
            continue
        yield record if sign is None else record.signed(sign)


def _sent(records: Generator[Record, None, None]) -> Iterator[bytes]:
    """The body of a bundle. A client that hangs up has the server close this, and with it what it reads."""
    with closing(records):
        yield from bundle_chunks(records)
