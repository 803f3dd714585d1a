"""What wraps a `Fetch` and is one: other mirrors, cut-offs, second attempts, and only what was asked for.

Rules: the wrapped function is called when the wrapper is, never later, so what it raises comes where it is expected; no
record is held back but the next one, so memory is that of one record; nothing is kept between calls. An answer is never
put together from two: once a record has been passed on, an error is passed on too and ends the pull, since a bundle
that breaks keeps nothing (what its closing checksum vouches for was never vouched for). Whoever wants a whole answer
in spite of breaks asks for a whole one again, by another `pull`, which costs no memory. Closing an answer, its end, an
error and a cut-off each close what is read beneath, begun or not. What comes out can be read once.

>>> def silent(peer):
...     raise ConnectionRefusedError("no route to host")
>>> def mirror(peer):
...     return [Record("c1", 1, peer), Record("c2", 2, peer)]
>>> fetch = first_of(silent, wanted(mirror, ["c2"]))
>>> [record.cid for record in fetch("alice")], is_partial(fetch)
(['c2'], True)
"""

from __future__ import annotations

import functools
import inspect
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, Final, TypeVar

from artdag_fed.callables import Fetch, check_callable, said
from artdag_fed.errors import BundleError, CodecError, StoreError, TransportError
from artdag_fed.limits import Limits, check_limits
from artdag_fed.names import Cid, PeerId, check_cid, shown
from artdag_fed.record import Record

__all__ = ["Digests", "carrying", "digests_of", "first_of", "is_partial", "limited", "retrying", "wanted"]

Digests = Callable[[PeerId, Iterable[Cid]], Mapping[Cid, str]]
"""`digests(peer, cids) -> {cid: digest}`: which of these the peer offers now, and with which results."""

NOTHING: Final[Any] = object()
log = logging.getLogger("artdag_fed")
T = TypeVar("T")


# --- the two attributes that a Fetch may carry --------------------------------------------------


def is_partial(fetch: Fetch) -> bool:
    """Whether the fetch leaves things out by design, as its attribute `partial` says; a plain function counts as whole.

    One that says neither True nor False, or raises, counts as partial: `pull(..., mirror=True)` drops what a whole one
    does not give.
    """
    try:
        said: object = fetch.partial  # type: ignore[attr-defined]  # a fetch may have it
    except AttributeError:  # there is none; or a property raises just this, and a property is not False
        said = inspect.getattr_static(fetch, "partial", False)
    except Exception:  # noqa: BLE001  # whatever it is, it is no word for being whole
        return True
    return said is not False


def digests_of(fetch: Fetch) -> Digests | None:
    """What answers "which of these ids do you have, with which digests" for this fetch; None where nothing does."""
    digests: Digests | None = getattr(fetch, "digests", None)
    return digests


def carrying(fetch: Fetch, *, partial: bool, digests: Digests | None) -> Fetch:
    """The same fetch with these two attributes; for wrappers of your own, which pass on those of what they wrap.

    >>> fetch = carrying(lambda peer: [], partial=is_partial(first_of), digests=None)
    >>> fetch.partial, hasattr(fetch, "digests")
    (False, False)
    """

    def carrying_fetch(peer: PeerId, /) -> Iterable[Record]:
        return fetch(peer)

    vars(carrying_fetch).update({"partial": partial} | ({} if digests is None else {"digests": digests}))
    return carrying_fetch


# --- the wrappers ---------------------------------------------------------------------------------


def first_of(*fetches: Fetch) -> Fetch:
    """Ask several roads to one peer (mirrors of it, say) in turn, until one of them answers.

    A road is given up for the next one where it raises an `Exception` before its first record; that it does so stands
    in the log. An answer without records is an answer. After the first record, an error ends the pull: see the rules
    above for why, and pull once for each road where that is not enough. Where all fail, `TransportError` says why.

    Several roads are only as good as the worst of them, unless `verify` proves who a record is from: the first that
    answers decides. Partial where one of them is. Digests are asked of those that can tell, in the same order.
    """
    if not fetches:
        raise TypeError("first_of() needs at least one fetch")
    for i, fetch in enumerate(fetches):
        check_callable(f"fetch {i}", fetch)
    telling = [digests for digests in map(digests_of, fetches) if digests is not None]

    def fetch_first(peer: PeerId, /) -> Iterable[Record]:
        return _first([functools.partial(_begun, fetch, peer) for fetch in fetches], peer)

    def digests(peer: PeerId, cids: Iterable[Cid], /) -> Mapping[Cid, str]:
        asked = tuple(cids)
        return _first([functools.partial(ask, peer, asked) for ask in telling], peer)

    return carrying(fetch_first, partial=any(map(is_partial, fetches)), digests=digests if telling else None)


def limited(
    fetch: Fetch,
    *,
    bytes: int | None = None,
    records: int | None = None,
    seconds: float | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Fetch:
    """Take so much of an answer and no more: what came until then is a whole bundle of its own, and kept.

    bytes: of payload; the record that would go over it is not passed on. records: how many. seconds: from the call on;
    after them the next record is not asked for. One that is being waited for cannot be interrupted from here: a
    transport's own deadline does that. clock: gives seconds.

    It stops instead of raising, since `Limits` is what raises: those bound what a peer may do, this is what you want. A
    bundle that was cut off was not read to its closing checksum, so use `verify` where bytes may be damaged on the
    road: then each record is checked by itself. Always partial. Raises `TypeError` and `ValueError` where no limit is
    given, or one is no positive number; with `bytes`, while it is read, `CodecError` for a result without bytes.
    """
    check_callable("fetch", fetch)
    check_callable("clock", clock)
    if bytes is None and records is None and seconds is None:
        raise ValueError("limited() needs a limit: bytes, records or seconds")
    for name, limit in (("bytes", bytes), ("records", records)):
        if limit is not None:
            _check_number(name, limit, 1, whole=True)
    if seconds is not None:
        _check_number("seconds", seconds, 0)

    def cut(source: Iterator[Record], end: float | None) -> Iterator[Record]:
        count = size = 0
        while (records is None or count < records) and (end is None or clock() < end):
            record = next(source, NOTHING)
            if record is NOTHING:
                return
            count += 1
            if bytes is not None:
                size += _size(record)
                if size > bytes:
                    return
            yield record

    def fetch_limited(peer: PeerId, /) -> Iterable[Record]:
        end = None if seconds is None else clock() + seconds
        source = reading(fetch, peer)
        return Answer(cut(source, end), source)

    return carrying(fetch_limited, partial=True, digests=digests_of(fetch))


def retrying(
    fetch: Fetch,
    *,
    attempts: int = 3,
    wait: float = 1.0,
    factor: float = 2.0,
    seconds: float = 60.0,
    jitter: Callable[[float], float] | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> Fetch:
    """Ask again where the road failed, up to `attempts` times in all, waiting longer each time.

    wait: seconds before the second attempt; factor: how much longer each further wait is. seconds: no attempt begins
    later than that after the call. jitter: what makes of the planned wait the real one, so that many who were cut off
    at once do not come back at once; `lambda planned: random.uniform(0, planned)` is the usual one.

    Only `TransportError` and other `OSError`s are the road's (not `StoreError`, a disk's), and only before the first
    record: after it, an error ends the pull, and the way to try again is to pull again. Any other error goes through at
    once. After the last attempt `TransportError` says how many there were. Digests are asked for in the same way.
    Raises `TypeError` and `ValueError` where an argument is of no use.
    """
    for name, value in (("fetch", fetch), ("clock", clock), ("sleep", sleep)):
        check_callable(name, value)
    check_callable("jitter", jitter, optional=True)
    _check_number("attempts", attempts, 1, whole=True)
    for name, number, least in (("wait", wait, 0), ("factor", factor, 1), ("seconds", seconds, 0)):
        _check_number(name, number, least)

    def again(ask: Callable[[], T], peer: PeerId) -> T:
        end = clock() + seconds
        planned = wait
        attempt = 1
        while True:
            try:
                return ask()
            except OSError as error:
                if isinstance(error, StoreError):
                    raise
                pause = planned if jitter is None else jitter(planned)
                if attempt == attempts or clock() + pause > end:
                    raise TransportError(
                        f"{shown(peer)} could not be asked in {attempt} of {attempts} attempts: {said(error)}"
                    ) from error
                log.info("asking %s again in %.3g s: %s", shown(peer), pause, said(error))
            sleep(pause)  # outside of `except`: what the failed attempt held is let go of before
            planned *= factor
            attempt += 1

    def fetch_again(peer: PeerId, /) -> Iterable[Record]:
        return again(lambda: _begun(fetch, peer), peer)

    ask_digests = digests_of(fetch)
    if ask_digests is None:
        return carrying(fetch_again, partial=is_partial(fetch), digests=None)

    def digests(peer: PeerId, cids: Iterable[Cid], /) -> Mapping[Cid, str]:
        asked = tuple(cids)
        return again(lambda: ask_digests(peer, asked), peer)

    return carrying(fetch_again, partial=is_partial(fetch), digests=digests)


def wanted(fetch: Fetch, cids: Iterable[Cid], *, limits: Limits = Limits()) -> Fetch:
    """Drop what was not asked for: only records for these cids are passed on. Where there are none, nobody is asked.

    What is dropped is never seen by the pull's own limits, so `limits.records` bounds the dropped ones here: more are a
    `BundleError`. Several records for one cid are all passed on; they may be different peers'. Always partial. Raises
    `InvalidName` and `TypeError` where a cid is none.
    """
    check_callable("fetch", fetch)
    if isinstance(cids, str | bytes) or not isinstance(cids, Iterable):  # a text would be taken apart into letters
        raise TypeError(f"cids must be an iterable of ids, not {type(cids).__name__}")
    check_limits(limits)
    chosen = frozenset(map(check_cid, cids))

    def pick(source: Iterator[Record], peer: PeerId) -> Iterator[Record]:
        dropped = 0
        for record in source:
            # What is no Record goes through: it breaks the bundle, and the pull says so.
            item: Any = record
            if not isinstance(item, Record) or (type(item.cid) is str and item.cid in chosen):
                yield record
                continue
            dropped += 1
            if dropped > limits.records:
                raise BundleError(
                    f"the bundle from {shown(peer)} has more than {limits.records:,} records (Limits.records) that "
                    "nobody asked for: nothing was kept"
                )

    def fetch_wanted(peer: PeerId, /) -> Iterable[Record]:
        if not chosen:
            return iter(())
        source = reading(fetch, peer)
        return Answer(pick(source, peer), source)

    ask_digests = digests_of(fetch)
    if ask_digests is None:
        return carrying(fetch_wanted, partial=True, digests=None)

    def digests(peer: PeerId, cids: Iterable[Cid], /) -> Mapping[Cid, str]:
        asked = chosen.intersection(cids)
        told = ask_digests(peer, tuple(sorted(asked))) if asked else {}
        return {cid: digest for cid, digest in told.items() if cid in asked}

    return carrying(fetch_wanted, partial=True, digests=digests)


# --- reading what was fetched ---------------------------------------------------------------------


class Answer(Iterator[Record]):
    """Records on their way through a wrapper. The end, an error and `close` close `source`, what they are read from.

    A class, since a generator that was never begun cannot close what it would have read.
    """

    __slots__ = ("_records", "_source")

    def __init__(self, records: Iterator[Record], source: Iterator[Record]) -> None:
        self._records = records
        self._source = source

    def __next__(self) -> Record:
        try:
            return next(self._records)
        except BaseException:  # StopIteration and Ctrl-C as well: whichever it is, nothing more is read
            self.close()
            raise

    def close(self) -> None:
        self._records = iter(())
        close_source(self._source)


def close_source(source: Iterator[Record]) -> None:
    close = getattr(source, "close", None)  # an iterator over a list has none, and needs none
    if close is not None:
        close()


def reading(fetch: Fetch, peer: PeerId) -> Iterator[Record]:
    """Call the fetch now, and begin to iterate over what it gives."""
    bundle: Any = fetch(peer)
    if not isinstance(bundle, Iterable) and not hasattr(type(bundle), "__getitem__"):
        kind = type(bundle).__name__
        raise BundleError(f"the bundle from {shown(peer)} is of type {kind}, not an iterable of Records")
    return iter(bundle)


def _begun(fetch: Fetch, peer: PeerId) -> Iterator[Record]:
    """Call the fetch now and read up to the first record: from then on its answer is the one."""
    source = reading(fetch, peer)
    try:
        first = next(source, NOTHING)
    except BaseException:
        close_source(source)
        raise
    return Answer(chain(() if first is NOTHING else (first,), source), source)


def _first(asks: Iterable[Callable[[], T]], peer: PeerId) -> T:
    """The first answer; where there is none, all of the reasons, as text: an exception would keep what it held."""
    reasons: list[str] = []
    for ask in asks:
        try:
            return ask()
        except Exception as error:  # noqa: BLE001  # whatever is wrong with one road, the next may be fine
            reasons.append(said(error))
            log.info("a way to %s failed, the next is tried: %s", shown(peer), reasons[-1])
    raise TransportError(f"none of {len(reasons)} ways to {shown(peer)} gave an answer: {'; '.join(reasons)}")


def _size(record: Any) -> int:
    """Payload bytes; 0 for what is no record or has no bytes for a payload, since the gate refuses that."""
    if not isinstance(record, Record):
        return 0
    try:
        payload: object = record.payload
    except CodecError as error:
        if record.declared:  # a peer's, left out by the reader of the bundle: no reason to end the whole pull
            return 0
        raise CodecError(f"limited(bytes=...) cannot measure {shown(record.cid)}: {error}") from error
    return len(payload) if type(payload) is bytes else 0


def _check_number(name: str, value: Any, least: int, *, whole: bool = False) -> None:
    kinds = (int,) if whole else (int, float)
    if type(value) not in kinds:
        raise TypeError(f"{name} must be {'an int' if whole else 'a number'}, not {type(value).__name__}")
    if not least <= value < float("inf"):  # nan is not
        raise ValueError(f"{name} must be at least {least} and finite, not {value}")
