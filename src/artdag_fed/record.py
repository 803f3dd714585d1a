"""One result on its way between two instances, and the statement about it that is signed.

Rules: a record is frozen and claims only; nothing here decides whether to believe it (`admission` does). Two keys are
never mixed up: the *cid* says what was asked, the *digest* says what came out. What is made when first asked for
(`payload`, `digest`, or `result` of one that was read from bytes) is made once and never changes.

>>> record = Record("c1", {"pixels": b"..."}, "alice")
>>> record.digest == sha256(record.payload).hexdigest()
True
>>> print(record.statement.decode())  # doctest: +ELLIPSIS
DSSEv1 36 application/vnd.artdag-fed.record.v1 ... artdag-fed record v1
cid c1
...
by alice
<BLANKLINE>
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from typing import Any, Final, cast, final

from artdag_fed.codec import DEFAULT, Codec
from artdag_fed.errors import CodecError
from artdag_fed.names import Cid, PeerId, shown

__all__ = ["STATEMENT_TYPE", "Bundle", "Record", "encoded_rows", "statement"]

STATEMENT_TYPE: Final = "application/vnd.artdag-fed.record.v1"
NOTHING: Final[Any] = object()  # None is a result like any other


class _Draft:
    """A record while it is being made: the same slots, still open. It becomes a `Record` by a change of its class,
    which costs half of what the ways round a frozen `__setattr__` cost, for the one object that a bundle is full of."""

    __slots__ = ("_decoded", "_digest", "_payload", "_result", "cid", "codec", "lineage", "peer", "recipe", "signature")

    cid: Cid
    peer: PeerId
    lineage: frozenset[PeerId]
    recipe: bytes
    signature: bytes
    codec: Codec
    _result: Any  # NOTHING where it was read from bytes
    _decoded: Any  # what those bytes are, or NOTHING: not asked for yet
    _payload: bytes | None
    _digest: str | None


_new_draft = _Draft.__new__


@final
class Record(_Draft):
    """One result offered by one peer. Frozen; equal records have equal fields and equal results.

    cid: Cid, what was computed; result: any object; peer: PeerId, who offers it; lineage: frozenset of PeerId, the
    other peers that it is declared to rest on; recipe: bytes, the node's recipe or b""; signature: bytes over
    `.statement`, or b"". `codec` (a `Codec`) is what the result is written and read with.

    Nothing is checked when a record is made: it is judged at the gate of the instance that imports it.
    """

    __slots__ = ()

    def __new__(
        cls,
        cid: Cid,
        result: Any,
        peer: PeerId,
        lineage: Iterable[PeerId] = frozenset(),
        recipe: bytes = b"",
        signature: bytes = b"",
        *,
        codec: Codec = DEFAULT,
    ) -> Record:
        if type(lineage) is not frozenset:
            if isinstance(lineage, str):  # it would be taken apart into letters
                raise TypeError(f"lineage is a set of peers, not the text {shown(lineage)}")
            lineage = frozenset(lineage)
        made: Any = _new_draft(_Draft)
        made.cid = cid
        made.peer = peer
        made.lineage = lineage
        made.recipe = recipe
        made.signature = signature
        made.codec = codec
        made._result = result
        made._decoded = NOTHING
        made._payload = None
        made._digest = None
        made.__class__ = cls  # frozen from here on
        return cast(Record, made)

    @classmethod
    def encoded(
        cls,
        cid: Cid,
        payload: bytes | None,
        digest: str,
        peer: PeerId,
        lineage: frozenset[PeerId] = frozenset(),
        recipe: bytes = b"",
        signature: bytes = b"",
        *,
        codec: Codec = DEFAULT,
    ) -> Record:
        """A record of encoded bytes and the digest that their sender declares for them, neither checked nor decoded.

        payload: None where the bytes were left out, as over a limit: then `payload` is a `CodecError`.
        """
        [record] = encoded_rows([(cid, payload, digest, peer, lineage, recipe, signature)], codec)
        return record

    @property
    def result(self) -> Any:
        """The result; `CodecError` where the record was read from bytes that are no value."""
        if self._result is not NOTHING:
            return self._result
        result = self._decoded
        if result is NOTHING:  # `_result` stays empty: what was declared stays a declaration
            payload = self._payload
            result = self.codec.decode(self.payload if payload is None else payload)
            _set_decoded(self, result)
        return result

    @property
    def payload(self) -> bytes:
        """The encoded result; `CodecError` where the codec cannot carry it."""
        payload = self._payload
        if payload is None:
            result = self._result
            if result is NOTHING:
                raise CodecError(f"the bytes of {shown(self.cid)} were left out: something in it was over a limit")
            payload = self.codec.encode(result)
            _set_payload(self, payload)
        return payload

    @property
    def digest(self) -> str:
        """SHA-256 of the payload in hex, as declared by whoever sent it where it was read from bytes."""
        digest = self._digest
        if digest is None:
            payload = self._payload
            digest = sha256(self.payload if payload is None else payload).hexdigest()
            _set_digest(self, digest)
        return digest

    @property
    def declared(self) -> bool:
        """Whether payload and digest came from outside, so that they may not fit each other."""
        return self._result is NOTHING

    @property
    def statement(self) -> bytes:
        """The bytes that a signature of this record is over; see `statement`."""
        return statement(self.cid, len(self.payload), self.digest, self.lineage, self.peer)

    def signed(self, sign: Callable[[bytes], bytes]) -> Record:
        """The same record with `sign(statement)` as its signature; `TypeError` where that is no bytes."""
        signature = sign(self.statement)
        if type(signature) is not bytes:
            raise TypeError(f"sign must return bytes, not {type(signature).__name__}")
        make, (cid, *some, _, codec) = self.__reduce__()
        return make(cid, *some, signature, codec)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Record is frozen: make another one instead of changing its {name}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a Record is frozen: its {name} stays")

    def __reduce__(self) -> tuple[Callable[..., Record], tuple[Any, ...]]:
        shared = (self.peer, self.lineage, self.recipe, self.signature)
        if self.declared:
            return _encoded, (self.cid, self._payload, self._digest, *shared, self.codec)
        return _valued, (self.cid, self._result, *shared, self.codec)

    def _fields(self) -> tuple[object, ...]:
        return self.cid, self.peer, self.lineage, self.recipe, self.signature

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Record):
            return NotImplemented
        if self._fields() != other._fields():
            return False
        try:
            return self.digest == other.digest
        except CodecError:  # what has no bytes is equal to itself alone
            return self._result is other._result

    def __hash__(self) -> int:
        return hash((self.cid, self.peer))

    def __repr__(self) -> str:
        rests = f", resting on {len(self.lineage)}" if self.lineage else ""
        return f"<Record {shown(self.cid, 16)} from {shown(self.peer)}{rests}{', signed' if self.signature else ''}>"


# What a frozen class makes later it writes through the descriptors of its slots, taken once.
_set_decoded, _set_payload, _set_digest = (vars(_Draft)[name].__set__ for name in ("_decoded", "_payload", "_digest"))

Row = tuple[Cid, bytes | None, str, PeerId, frozenset[PeerId], bytes, bytes]
"""The arguments of `Record.encoded`."""


def encoded_rows(rows: Iterable[Row], codec: Codec) -> Iterator[Record]:
    """`Record.encoded` of each row: without a call for each, since a bundle has a hundred thousand."""
    for cid, payload, digest, peer, lineage, recipe, signature in rows:
        made: Any = _new_draft(_Draft)
        made.cid = cid
        made.peer = peer
        made.lineage = lineage
        made.recipe = recipe
        made.signature = signature
        made.codec = codec
        made._result = made._decoded = NOTHING
        made._payload = payload
        made._digest = digest
        made.__class__ = Record  # frozen from here on
        yield made


def _encoded(cid: Cid, payload: bytes | None, digest: str, *rest: Any) -> Record:
    return Record.encoded(cid, payload, digest, *rest[:-1], codec=rest[-1])


def _valued(cid: Cid, result: Any, *rest: Any) -> Record:
    return Record(cid, result, *rest[:-1], codec=rest[-1])


def statement(cid: Cid, size: int, digest: str, lineage: Iterable[PeerId], peer: PeerId) -> bytes:
    """The DSSE pre-authentication encoding (secure-systems-lab/dsse, protocol.md) of what `peer` vouches for.

    size: payload bytes; digest: their SHA-256 in hex. Names are checked before (a line end in one would forge a line).
    """
    peers = sorted(lineage)
    lines = [
        "artdag-fed record v1",
        f"cid {cid}",
        f"result {size} {digest}",
        f"lineage {len(peers)}",
        *peers,
        f"by {peer}",
    ]
    body = ("\n".join(lines) + "\n").encode()
    return b"DSSEv1 %d %s %d %s" % (len(STATEMENT_TYPE), STATEMENT_TYPE.encode(), len(body), body)


class Bundle:
    """Records that are made as they are read, from ids that were fixed before; it can be iterated again and again.

    `peer` offers them; `cids` are the ids that it was made for. A result that has gone since is left out.
    """

    __slots__ = ("_make", "cids", "peer")

    def __init__(self, peer: PeerId, cids: tuple[Cid, ...], make: Callable[[Cid], Record | None]) -> None:
        self.peer = peer
        self.cids = cids
        self._make = make

    def __iter__(self) -> Iterator[Record]:
        for cid in self.cids:
            record = self._make(cid)
            if record is not None:
                yield record

    def __repr__(self) -> str:
        return f"<Bundle of up to {len(self.cids)} records from {shown(self.peer)}>"
