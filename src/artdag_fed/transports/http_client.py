"""Fetching results from instances that are served over HTTP, and asking which ones they have.

Rules: nothing is asked before the records are read, and the connection is closed when they were, or when the reader
stops; one *total* deadline is over all of it, the reader's own work included. A record is handed on as it came:
believing it is the importer's choice. An error names the peer, the URL and the cause; a token is in none.

>>> fetch = fetcher({"alice": "https://alice.example/results"}, tokens={"alice": "s3cret"})
>>> fetch
<fetch over HTTP from 'alice', deadline 300 s>
>>> fetcher({"alice": "http://alice.example/results"}, tokens={"alice": "s3cret"})
Traceback (most recent call last):
...
ValueError: a token for 'http://alice.example/results' would travel in the open: use https
"""

from __future__ import annotations

import http.client
import math
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from artdag_fed.bundle import read_bundle
from artdag_fed.callables import said
from artdag_fed.codec import Codec, codec_or_default
from artdag_fed.errors import BundleError, TransportError
from artdag_fed.limits import Limits, check_limits
from artdag_fed.names import Cid, PeerId, check_cid, check_peer, shown
from artdag_fed.record import Record
from artdag_fed.transports.http_connection import Deadline, Url, exchange
from artdag_fed.transports.http_wire import (
    BUNDLE_PATH,
    BUNDLE_TYPE,
    HAVE_PATH,
    JSON_TYPE,
    MOST_CIDS,
    TOKEN,
    asked,
    most_answer_bytes,
    read_digests,
)

__all__ = ["DEADLINE", "HttpFetch", "fetcher", "have"]

DEADLINE: Final = 300.0
"""Seconds for one call. A day's film takes longer: say so there. A total that is too long is better than none."""


class HttpFetch:
    """A `Fetch` over HTTP; see `fetcher`. `partial`: it leaves things out by design, since only some were asked for."""

    def __init__(
        self,
        urls: Mapping[PeerId, Url],
        cids: tuple[Cid, ...] | None,
        tokens: Mapping[PeerId, str],
        deadline: float,
        limits: Limits,
        codec: Codec,
    ) -> None:
        self._urls = urls
        self._cids = cids
        self._tokens = tokens
        self._deadline = deadline
        self._limits = limits
        self._codec = codec

    @property
    def partial(self) -> bool:
        return self._cids is not None

    def __call__(self, peer: PeerId, /) -> Generator[Record, None, None]:
        """The records of `peer`, read as they come. `TransportError` now where there is no URL for it, and while it is
        read where it breaks off; `BundleError` where what it sends is no bundle or over a limit."""
        return self._records(self._url(peer), peer)

    def digests(self, peer: PeerId, cids: Iterable[Cid]) -> dict[Cid, str]:
        """Those of `cids` that `peer` offers, with the digests of their results; as `have`."""
        url = self._url(peer)
        with _blaming(f"asking {shown(peer)} ({url})"):
            return _have(url, _checked(cids), self._tokens.get(peer), Deadline(self._deadline))

    def _url(self, peer: PeerId) -> Url:
        if peer not in self._urls:
            known = ", ".join(map(shown, list(self._urls)[:3]))
            raise TransportError(f"fetching from {shown(peer)} failed: no URL was given for it, only for {known}")
        return self._urls[peer]

    def _records(self, url: Url, peer: PeerId) -> Generator[Record, None, None]:
        deadline = Deadline(self._deadline)
        bodies = [None] if self._cids is None else map(asked, _batches(self._cids))
        with _blaming(f"fetching from {shown(peer)} ({url})"):
            for body in bodies:
                with exchange(
                    url / BUNDLE_PATH,
                    body=body,
                    media_type=BUNDLE_TYPE,
                    token=self._tokens.get(peer),
                    deadline=deadline,
                ) as stream:
                    for record in read_bundle(stream, self._limits, codec=self._codec):
                        yield record
                        deadline.left()  # the reader may have taken its time over it

    def __repr__(self) -> str:
        some = "" if self._cids is None else f", {len(self._cids)} results"
        return f"<fetch over HTTP from {', '.join(map(shown, self._urls))}{some}, deadline {self._deadline:g} s>"


def fetcher(
    urls: Mapping[PeerId, str],
    *,
    cids: Iterable[Cid] | None = None,
    tokens: Mapping[PeerId, str] = {},
    deadline: float = DEADLINE,
    limits: Limits = Limits(),
    codec: Codec | None = None,
) -> HttpFetch:
    """A `Fetch` of what `transports.http.app` serves at these URLs, http or https, by peer.

    cids: only these results (None: all that the peer offers). tokens: bearer tokens by peer; one travels over https, or
    to this machine. deadline: seconds, for each call in all: the look-up of the name, connecting, TLS, the headers and
    the body to its end, with what the reader does meanwhile. limits: as for `import_`, for each of the requests that
    are made: one for every 10,000 cids. codec: what results are decoded with, as for `read_bundle`.

    Raises `ValueError` for no URLs, a URL that is none, a token that cannot be one or would travel in the open, and a
    deadline that is no positive number; `InvalidName`, `TypeError`.
    """
    for name, given in (("urls", urls), ("tokens", tokens)):
        if not isinstance(given, Mapping):
            raise TypeError(f"{name} must be a mapping by peer, not {type(given).__name__}")
    check_limits(limits)
    codec = codec_or_default(codec)
    places = {check_peer(peer): Url.of(url) for peer, url in urls.items()}
    kept = {peer: token for peer, token in tokens.items() if peer in places}
    for peer, token in kept.items():
        _check_token(places[peer], token)
    chosen, seconds = None if cids is None else _checked(cids), _seconds(deadline)
    if not places:
        raise ValueError("urls is empty: name at least one peer, {peer: url}")
    return HttpFetch(places, chosen, kept, seconds, limits, codec)


def have(url: str, cids: Iterable[Cid], *, token: str | None = None, deadline: float = DEADLINE) -> dict[Cid, str]:
    """Which of these the instance at `url` offers: their digests (SHA-256 of the encoded results, hex) by cid.

    An answer is its sender's claim. Raises `TransportError` that names the URL and the cause, and as `fetcher`.
    """
    place = Url.of(url)
    if token is not None:
        _check_token(place, token)
    chosen = _checked(cids)
    with _blaming(f"asking {place}"):
        return _have(place, chosen, token, Deadline(_seconds(deadline)))


def _have(url: Url, cids: tuple[Cid, ...], token: str | None, deadline: Deadline) -> dict[Cid, str]:
    found: dict[Cid, str] = {}
    for batch in _batches(cids):
        with exchange(
            url / HAVE_PATH, body=asked(batch), media_type=JSON_TYPE, token=token, deadline=deadline
        ) as stream:
            most = most_answer_bytes(len(batch))
            text = stream.read(most + 1)
        if len(text) > most:
            raise TransportError(f"its answer is longer than the {most:,} bytes that it could need")
        try:
            found |= read_digests(text, frozenset(batch))
        except ValueError as error:
            raise TransportError(f"its answer cannot be read: {error}") from None
    return found


def _batches(cids: tuple[Cid, ...]) -> Iterator[tuple[Cid, ...]]:
    return (cids[start : start + MOST_CIDS] for start in range(0, len(cids), MOST_CIDS))


@contextmanager
def _blaming(doing: str) -> Iterator[None]:
    """Whatever goes wrong on the road says what was being done, and with whom."""
    try:
        yield
    except BundleError as error:
        raise BundleError(f"{doing} failed: {error}") from error
    except TransportError as error:
        raise TransportError(f"{doing} failed: {error}") from error
    except (OSError, http.client.HTTPException) as error:
        raise TransportError(f"{doing} failed: {said(error)}") from error


def _checked(cids: Iterable[Cid]) -> tuple[Cid, ...]:
    if isinstance(cids, str | bytes):  # it would be taken apart into letters
        raise TypeError(f"cids must be several ids, not one text: write [{shown(cids)}]")
    return tuple(dict.fromkeys(map(check_cid, cids)))


def _check_token(url: Url, token: object) -> None:
    """Refuse a token that could end its header line, or be read on the way. It is in no message."""
    if type(token) is not str:
        raise TypeError(f"a token is a str, not {type(token).__name__}")
    if TOKEN.fullmatch(token) is None:
        raise ValueError(
            f"the token for {str(url)!r} cannot be one: only A-Z a-z 0-9 - . _ ~ + / and = at the end may be in it"
        )
    if not url.keeps_tokens():
        raise ValueError(f"a token for {str(url)!r} would travel in the open: use https")


def _seconds(deadline: object) -> float:
    if isinstance(deadline, bool) or not isinstance(deadline, int | float):
        raise TypeError(f"deadline must be a number of seconds, not {type(deadline).__name__}")
    if not (0 < deadline < math.inf):
        raise ValueError(f"deadline must be more than 0 seconds and finite, not {deadline}")
    return float(deadline)
