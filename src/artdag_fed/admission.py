"""The one gate through which everything that a peer sends has to pass: a record's verdict.

Rules: pure apart from asking the callables that it was given; nothing is fetched, stored or logged here; the checks
come in one fixed order, cheap and broad ones first, and the first that fails gives the reason. What passes is turned
into an `Entry` made of exactly the fields that were judged. A rejection never stops the rest.

>>> gate = Gate(trusted={"alice"}.__contains__)
>>> gate.judge(Record("c1", 1, "mallory"))
'untrusted'
>>> gate.judge(Record("c1", 1, "alice")).origin
Origin(peer='alice', lineage=frozenset())
"""

from __future__ import annotations

import hashlib

from artdag_fed.cache import Entry, Origin
from artdag_fed.callables import Trust, Verify
from artdag_fed.codec import DEFAULT, Codec
from artdag_fed.errors import BundleError, CodecError
from artdag_fed.events import Reason
from artdag_fed.limits import Limits
from artdag_fed.names import PeerId, is_cid, is_peer
from artdag_fed.record import Record, statement

__all__ = ["Gate"]


class Gate:
    """Judges the records of one bundle.

    trusted: who may offer results; trusted_lineage: whom they may rest on (None: anyone); asked: the one peer that
    records must name (None: any); verify: checks signatures (None: labels are believed); codec, encodes: those of the
    cache that the entries are for.

    Both predicates are asked once per peer if they come from `callables.asked_once`.
    """

    def __init__(
        self,
        *,
        trusted: Trust,
        trusted_lineage: Trust | None = None,
        asked: PeerId | None = None,
        verify: Verify | None = None,
        limits: Limits | None = None,
        codec: Codec = DEFAULT,
        encodes: bool = False,
    ) -> None:
        self._trusted = trusted
        self._trusted_lineage = trusted_lineage
        self._asked = asked
        self._verify = verify
        self._limits = Limits() if limits is None else limits
        self._codec = codec
        self._encodes = encodes
        self._origins: dict[tuple[PeerId, frozenset[PeerId]], Origin | Reason] = {}
        self._left = self._limits.bytes

    def judge(self, record: Record) -> Entry | Reason:
        """The entry to store, or why there is none.

        Raises `BundleError` where the bundle as a whole goes over a limit; what a trust predicate raises goes through.
        """
        limits = self._limits
        cid, recipe, signature = record.cid, record.recipe, record.signature
        if not is_cid(cid) or type(recipe) is not bytes or type(signature) is not bytes:
            return "malformed"
        if len(recipe) > limits.recipe_bytes or len(signature) > limits.signature_bytes:
            return "malformed"
        try:
            payload: bytes | None = record.payload
        except CodecError:
            payload = None if record.declared else self._encoded(record)
        if type(payload) is not bytes:
            payload = None
        size = 0 if payload is None else len(payload)
        # In memory a result may have no bytes; then it came as an object, and nothing that needs bytes is asked for.
        if payload is None and (self._encodes or self._verify is not None or record.declared):
            return "malformed"
        if size > limits.record_bytes:
            return "malformed"
        self._left -= size
        if self._left < 0:
            raise BundleError(
                f"the bundle has more than {limits.bytes:,} payload bytes (Limits.bytes): nothing was kept"
            )

        origin = self._origin(record)
        if not isinstance(origin, Origin):
            return origin

        digest = "" if payload is None else hashlib.sha256(payload).hexdigest()
        if record.declared and digest != record.digest:
            return "corrupt"
        if self._verify is not None:
            if not signature:
                return "unsigned"
            # Rebuilt from what is about to be stored, so that what is verified is what is used.
            peer = record.peer if origin.peer is None else origin.peer
            if not _verified(self._verify, peer, statement(cid, size, digest, origin.lineage, peer), signature):
                return "forged"
        if recipe and hashlib.sha256(recipe).hexdigest() != cid:
            return "recipe"
        if self._verify is None:
            signature = b""  # nobody looked at it
        if self._encodes:
            return Entry(cid, origin, digest, payload, None, False, recipe, signature=signature)
        try:
            value = self._codec.decode(payload) if record.declared and payload is not None else record.result
        except CodecError:
            return "malformed"
        return Entry(cid, origin, digest, None, value, True, recipe, signature=signature, size=size)

    def _encoded(self, record: Record) -> bytes | None:
        """The bytes of a result that its record has none for: the receiving codec may know a type more."""
        try:
            return self._codec.encode(record.result)
        except CodecError:
            return None

    def _origin(self, record: Record) -> Origin | Reason:
        """The verdict over peer and lineage, which many records of a bundle share."""
        key = (record.peer, record.lineage)
        try:
            return self._origins[key]
        except KeyError:
            pass
        except TypeError:  # unhashable, so neither text nor a frozenset of it
            return "malformed"
        if len(self._origins) >= self._limits.origins:
            raise BundleError(
                f"the bundle has more than {self._limits.origins:,} distinct origins (Limits.origins): nothing was kept"
            )
        verdict = self._origins[key] = self._judge_origin(*key)
        return verdict

    def _judge_origin(self, peer: PeerId, lineage: frozenset[PeerId]) -> Origin | Reason:
        if not is_peer(peer) or type(lineage) is not frozenset or len(lineage) > self._limits.lineage:
            return "malformed"
        if not all(map(is_peer, lineage)) or peer in lineage:
            return "malformed"
        if self._asked is not None and self._verify is None and peer != self._asked:
            return "mislabelled"
        if not self._trusted(peer):
            return "untrusted"
        if self._trusted_lineage is not None and not all(map(self._trusted_lineage, sorted(lineage))):
            return "lineage"
        return Origin(peer, lineage)


def _verified(verify: Verify, peer: PeerId, body: bytes, signature: bytes) -> bool:
    try:
        return verify(peer, body, signature) is True
    except Exception:  # noqa: BLE001  # a check that cannot read a hostile signature has not verified it
        return False
