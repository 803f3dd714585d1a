"""Ready-made `Sign` and `Verify` functions: shared keys, and a door for any other kind of signature.

Rules: nothing is true but True, so whatever is in doubt has not verified; a peer that is not in the mapping has not
either; mappings are copied, so what verifies does not change under a call; comparisons take the same time wherever the
bytes differ. What is signed is a record's statement (`record.statement`), which begins with a type tag of its own: no
further prefix is put before it, so that any tool that can make the signature over these bytes can take part. Refused:
keys that can be guessed, keys as text, names that no peer can have. No key is ever part of a message.

>>> sign, verify = hmac_signer(b"sixteen or more bytes"), hmac_verifier({"alice": b"sixteen or more bytes"})
>>> verify("alice", b"a statement", sign(b"a statement")), verify("bob", b"a statement", sign(b"a statement"))
(True, False)
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from artdag_fed.callables import Sign, Verify, check_callable
from artdag_fed.names import PeerId, check_peer, shown

__all__ = ["Check", "hmac_signer", "hmac_verifier", "raising", "verifier"]

Check = Callable[[bytes, bytes], bool]
"""`check(signature, statement) -> bool`: whether the signature is that of the one peer that the check is for. The order
of the arguments is that of `Ed25519PublicKey.verify` and most of its kind."""

KEY_BYTES = 16  # 128 bits cannot be guessed; RFC 2104 (3) asks for the hash's length, 32, which `secrets` gives

V = TypeVar("V")


def hmac_signer(key: bytes) -> Sign:
    """Sign with a key that is shared with those who verify: 32 bytes of HMAC-SHA-256 (RFC 2104) over the statement.

    key: at least 16 bytes, random ones: `secrets.token_bytes(32)`, not a password.

    Such a signature says "someone who holds this key": everyone who can verify can sign as well, and so pass the result
    of one holder off as another's. One key for each pair of peers keeps that between the two; where several verify one
    signer, or a record is to be shown to a third party, use public keys (`verifier`). Raises `TypeError` and
    `ValueError` where the key is none.
    """
    _check_key(key, "the key")

    def sign(statement: bytes) -> bytes:
        return hmac.digest(key, statement, "sha256")

    return sign


def hmac_verifier(keys: Mapping[PeerId, bytes]) -> Verify:
    """Verify what `hmac_signer` signed: `{peer: key}`; a peer that is not in it has not signed anything.

    A name stands for a key for as long as old signatures are to hold, so a new key is a new name, `alice-2` beside
    `alice-1`: whoever trusts decides about both, and `invalidate(fed, "alice-1")` takes back the old one alone. Raises
    `InvalidName`, and `TypeError` and `ValueError` with the peer in it where its key is none.
    """
    copied = _by_peer("hmac_verifier", keys, "key")
    for peer, key in copied.items():
        _check_key(key, f"the key of {shown(peer)}")

    def verify(peer: PeerId, statement: bytes, signature: bytes) -> bool:
        key = copied.get(peer)
        return key is not None and hmac.compare_digest(hmac.digest(key, statement, "sha256"), signature)

    return verify


def verifier(checks: Mapping[PeerId, Check]) -> Verify:
    """Verify with a check for each peer: `{peer: check}`, where `check(signature, statement)` must return True.

    The check belongs to the name here, so a key or a name inside a signature is never asked who it is. A peer that is
    not in the mapping has not signed. What a check raises goes through, and at the gate rejects that record; what
    it returns apart from True is a no. A check that tells failure only by raising returns None where all is well, so it
    goes through `raising`, without which it verifies nothing. Rotation is as for `hmac_verifier`. Raises `InvalidName`
    and `TypeError`.

    >>> verify = verifier({"alice": lambda signature, statement: signature == b"seal"})
    >>> verify("alice", b"...", b"seal"), verify("alice", b"...", b"wax"), verify("mallory", b"...", b"seal")
    (True, False, False)
    """
    copied = _by_peer("verifier", checks, "check")
    for peer, check in copied.items():
        check_callable(f"the check of {shown(peer)}", check)

    def verify(peer: PeerId, statement: bytes, signature: bytes) -> bool:
        check = copied.get(peer)
        return check is not None and check(signature, statement) is True

    return verify


def raising(check: Callable[[bytes, bytes], object]) -> Check:
    """A check that tells failure only by raising, as one that returns True or False.

    `raising(public_key.verify)` is one for Ed25519 of `cryptography`. Returning None or True counts as verified; any
    `Exception` as not, since libraries differ in what they raise for bytes that are no signature at all (to see which,
    call the check itself); Ctrl-C goes through. A check that returns False did say no. Whatever else comes back is a
    `TypeError`: of a 0, of the coroutine of an `async def` that nobody awaited, of a message, no one can tell here
    whether it means yes.

    >>> def verify_or_raise(signature, statement):
    ...     if signature != b"seal":
    ...         raise ValueError("not our seal")
    >>> raising(verify_or_raise)(b"seal", b"..."), raising(verify_or_raise)(b"wax", b"...")
    (True, False)
    """
    check_callable("check", check)

    def returning(signature: bytes, statement: bytes) -> bool:
        try:
            answer = check(signature, statement)
        except Exception:  # noqa: BLE001  # what a library raises for hostile bytes is for the library to choose
            return False
        if answer is None or answer is True:
            return True
        if answer is False:
            return False
        raise TypeError(f"a check for raising() returns None where it holds, not {type(answer).__name__}")

    return returning


# --- what they share --------------------------------------------------------------------------


def _by_peer(name: str, given: Mapping[PeerId, V], what: str) -> dict[PeerId, V]:
    """A copy of the mapping, with names that peers can have."""
    if not isinstance(given, Mapping):
        raise TypeError(f"{name} takes a mapping {{peer: {what}}}, not {type(given).__name__}")
    return {check_peer(peer): value for peer, value in given.items()}


def _check_key(key: Any, what: str) -> None:
    if type(key) is not bytes:
        hint = ": a password is no key, use secrets.token_bytes(32)" if isinstance(key, str) else ""
        raise TypeError(f"{what} must be bytes, not {type(key).__name__}{hint}")
    if len(key) < KEY_BYTES:
        raise ValueError(f"{what} has {len(key)} bytes, at least {KEY_BYTES} are needed: use secrets.token_bytes(32)")
