"""What a valid content id, a valid peer name and a valid digest are, and nothing else.

Rules: a cid is an opaque token here, whoever made it, so ids of other systems work too; a peer name is text that a
person can read back without being fooled. Neither is ever normalised: what is not valid is refused.

>>> check_cid("0f" * 32) == "0f" * 32
True
>>> check_peer("@studio@artdag.example")
'@studio@artdag.example'
"""

from __future__ import annotations

import re
import unicodedata
from typing import TypeGuard

from artdag_fed.errors import InvalidName

__all__ = ["Cid", "PeerId", "check_cid", "check_peer", "is_cid", "is_digest", "is_peer", "one_line", "shown"]

Cid = str
"""A content id: a full match of `[A-Za-z0-9][A-Za-z0-9._:-]{0,127}`, ASCII. Ours are 64 lower-case hex digits."""

PeerId = str
"""The name of another instance: 1 to 255 UTF-8 bytes, no control, format or surrogate characters, trimmed."""

PEER_BYTES = 255  # what a file name may have on the file systems in use, and more than a Fediverse handle needs

_cid = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}", re.ASCII).fullmatch
_digest = re.compile(r"[0-9a-f]{64}", re.ASCII).fullmatch


def is_cid(cid: object) -> bool:
    """Whether `cid` is text of the form that `Cid` describes."""
    return type(cid) is str and _cid(cid) is not None


def is_peer(peer: object) -> bool:
    """Whether `peer` is text of the form that `PeerId` describes."""
    if type(peer) is not str or not peer or peer != peer.strip():
        return False
    if peer.isascii():
        return peer.isprintable() and len(peer) <= PEER_BYTES
    # Cc: control, Cf: format (bidi overrides, zero-width), Cs: surrogates; the first and last could fool a reader, the
    # second too, and surrogates have no UTF-8. Line and paragraph separators (Zl, Zp) are breaks like control ones.
    if any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in peer):
        return False
    return len(peer.encode()) <= PEER_BYTES


def is_digest(digest: object) -> TypeGuard[str]:
    """Whether `digest` is text as `sha256().hexdigest()` gives it."""
    return type(digest) is str and _digest(digest) is not None


def check_cid(cid: object) -> Cid:
    """Return `cid`; raise `InvalidName` where it is none, or `TypeError` where it is no text."""
    if type(cid) is not str:
        raise TypeError(f"a cid is a str, not {type(cid).__name__}")
    if not is_cid(cid):
        raise InvalidName(
            f"{shown(cid)} is no cid: expected 1 to 128 of A-Z a-z 0-9 . _ : - beginning with A-Z a-z 0-9"
        )
    return cid


def check_peer(peer: object) -> PeerId:
    """Return `peer`; raise `InvalidName` where it is none, or `TypeError` where it is no text."""
    if type(peer) is not str:
        raise TypeError(f"a peer is named by a str, not {type(peer).__name__}")
    if not is_peer(peer):
        raise InvalidName(
            f"{shown(peer)} is no peer name: expected 1 to {PEER_BYTES} UTF-8 bytes without control, format or "
            "surrogate characters and without white space at its ends"
        )
    return peer


def shown(text: object, most: int = 60) -> str:
    """`repr` of a name for a message: ASCII, cut after `most` characters, so that hostile text stays one short line."""
    spelt = ascii(text[: most + 1]) if isinstance(text, str) else ascii(text)
    return spelt if len(spelt) <= most + 2 else spelt[:most] + "...'"


def one_line(text: str) -> str:
    """`text` without what a terminal would act on or could not show: control, format and surrogate characters.

    >>> one_line("no\\nway")
    'no\\\\nway'
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
