"""Every exception of this library, grouped by whose fault it was.

Rules: one base, `FederationError`; each error is also the builtin that people would catch for it, so code that knows
nothing of this library still handles it. A message names the thing, what was expected, what was found, what to do.
Wrong *types* of arguments are plain `TypeError`, as everywhere in Python.

>>> issubclass(StoreError, OSError) and issubclass(StoreError, FederationError)
True
"""

from __future__ import annotations

__all__ = [
    "BundleError",
    "CodecError",
    "FederationError",
    "InvalidName",
    "RunError",
    "StoreError",
    "TransportError",
]


class FederationError(Exception):
    """The base of all errors here: `except FederationError` catches each of them."""


# --- your call ------------------------------------------------------------------------------


class InvalidName(FederationError, ValueError):
    """A cid, a peer or an op name that cannot be one."""


class RunError(FederationError, RuntimeError):
    """A node could not be computed. The runner's own exception is its `__cause__`.

    `cid` and `op` name the node; what was finished before it is kept.
    """

    def __init__(self, message: str, *, cid: str = "", op: str = "") -> None:
        super().__init__(message)
        self.cid = cid
        self.op = op

    def __reduce__(self) -> tuple[object, ...]:
        return _run_error, (self.args[0], self.cid, self.op)


def _run_error(message: str, cid: str, op: str) -> RunError:
    return RunError(message, cid=cid, op=op)


# --- their bytes (or values: what a value cannot be written as, it cannot be sent as) --------


class CodecError(FederationError, ValueError):
    """A value that has no bytes, or bytes that are no value."""


class BundleError(FederationError, ValueError):
    """A bundle that is broken as a whole. Nothing of it was kept."""


# --- the road between -----------------------------------------------------------------------


class TransportError(FederationError, OSError):
    """A peer could not be reached, or stopped answering. Nothing of its answer was kept."""


class StoreError(FederationError, OSError):
    """A cache on disk that cannot be opened, read or written. What it reported as stored is still there."""
