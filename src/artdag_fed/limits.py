"""Every bound on what a peer may send, each with its reason.

Rules: each is checked before the work that it bounds is done; a record over its own limit is rejected as `malformed`
and the rest goes on; a bundle over a limit on the whole is a `BundleError` and nothing of it is kept.

>>> Limits(records=10).records
10
"""

from __future__ import annotations

from dataclasses import dataclass, fields

__all__ = ["Limits", "check_limits"]

KiB, MiB, GiB = 1 << 10, 1 << 20, 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much of a bundle is read at most; all are counts or bytes, and positive integers.

    Raises `TypeError` where a limit is no int and `ValueError` where it is below 1.
    """

    records: int = 1_000_000
    """Records in one bundle. A bundle of more is cut by its sender into several."""
    bytes: int = 64 * GiB
    """Payload and recipe bytes in one bundle: far above a day's film, below a disk."""
    record_bytes: int = GiB
    """Payload bytes in one record: a result has to fit in memory, several times over on a small machine."""
    recipe_bytes: int = 256 * KiB
    """Bytes in one record's recipe: parameters are settings; data belongs into results."""
    header_bytes: int = MiB
    """Bytes in the header of one block of a bundle, which is read whole: some thousand records, or a long signature."""
    nesting: int = 64
    """Brackets within each other in the text of one result. 64 containers are all that the codec reads, so only a lower
    limit has an effect: for what else reads the results."""
    signature_bytes: int = 64 * KiB
    """Bytes in one record's signature: the largest of the post-quantum ones have 50,000."""
    lineage: int = 256
    """Peers in one record's lineage: far more hops than people who trust each other."""
    origins: int = 10_000
    """Distinct pairs of peer and lineage in one bundle: results are many, origins are few."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value) is not int:
                raise TypeError(f"Limits.{field.name} must be an int, not {type(value).__name__}")
            if value < 1:
                raise ValueError(f"Limits.{field.name} must be at least 1, not {value}")


def check_limits(limits: object) -> None:
    """Raise `TypeError` where `limits` are none."""
    if not isinstance(limits, Limits):
        raise TypeError(f"limits must be a Limits, not {type(limits).__name__}")
