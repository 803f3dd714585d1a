"""What the command line reads from files and writes to them: bundles, keys, tokens, and the folders of instances.

Rules: an instance is opened where there is one; only what keeps results makes one, and says so. A bundle file is there
whole or not at all: it is written under another name beside it, synced and renamed; it replaces a bundle or an empty
file, and no other. What is no plain file (a pipe, a device) is written as it is; a terminal is not, since a bundle is
bytes that others chose. Secrets are bounded in size, and no message has one.

>>> import tempfile
>>> with opened(tempfile.mkdtemp()):
...     pass  # doctest: +ELLIPSIS
Traceback (most recent call last):
...
artdag_fed.errors.StoreError: '...' is no instance: it has no index.sqlite3
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from collections.abc import Iterator
from typing import BinaryIO, Final

from artdag_fed.bundle import MAGIC
from artdag_fed.caches.disk_index import INDEX, sync_folder
from artdag_fed.cli_output import Usage, naming
from artdag_fed.errors import BundleError, FederationError, StoreError
from artdag_fed.federation import Federation
from artdag_fed.instance import cache_of
from artdag_fed.instance import open as open_instance
from artdag_fed.names import shown
from artdag_fed.signing import hmac_signer
from artdag_fed.transports.http_wire import TOKEN

__all__ = ["key_in", "opened", "reading", "token_in", "writing"]

SECRET_BYTES: Final = 1 << 16
"""Of a key or token file: far above any; what is longer is the wrong file, or one without an end."""


@contextlib.contextmanager
def opened(path: str, *, make: bool = False) -> Iterator[tuple[Federation, bool]]:
    """The instance in the folder `path`, and whether it is a new one, which only `make` allows; closed afterwards."""
    try:
        os.lstat(os.path.join(path, INDEX))
        new = False
    except (FileNotFoundError, NotADirectoryError):
        new = True
    except OSError as error:
        raise StoreError(f"{shown(path, 200)} cannot be looked into: {error.strerror}") from error
    if new and not make:
        why = (
            f"it has no {INDEX}"
            if os.path.isdir(path)
            else "it is a file"
            if os.path.exists(path)
            else "nothing is there"
        )
        raise StoreError(f"{shown(path, 200)} is no instance: {why}")
    fed = open_instance(path)
    try:
        yield fed, new
    finally:
        cache_of(fed).close()


@contextlib.contextmanager
def reading(path: str) -> Iterator[BinaryIO]:
    """The bundle file to read from; - is the standard input. What is found to be wrong with it names it."""
    what = "the standard input" if path == "-" else shown(path, 200)
    if path == "-" and sys.stdin is None:
        raise OSError("there is no standard input")
    try:
        with contextlib.nullcontext(sys.stdin.buffer) if path == "-" else open(path, "rb") as file:
            yield file
    except BundleError as error:
        raise BundleError(f"{what}: {error}") from error
    except OSError as error:
        if isinstance(error, FederationError) or error.filename is not None:  # which say of themselves what it was
            raise
        raise OSError(f"{what} cannot be read: {error.strerror or error}") from error


@contextlib.contextmanager
def writing(path: str) -> Iterator[BinaryIO]:
    """The file to write to; - is the standard output. It is there under its name when all was written, or not."""
    if path == "-":
        if sys.stdout.isatty():
            raise Usage("export: a bundle is no text for a terminal: send it to a file or a pipe")
        with naming("the standard output"):
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        return
    with naming(shown(path, 200)):
        path = os.path.realpath(path)  # a link stays one
        if os.path.lexists(path) and not os.path.isfile(path):  # a folder says now that it is one
            with open(path, "wb") as file:
                yield file
        else:
            _check_no_loss(path)
            with _replacing(path) as file:
                yield file


def _check_no_loss(path: str) -> None:
    """What is replaced is a bundle, which can be written again, or empty: the name may be that of a key."""
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
        if file.read(len(MAGIC)) not in (MAGIC, b""):
            raise OSError("it is there already and is no bundle: choose another name, or remove it first")


@contextlib.contextmanager
def _replacing(path: str) -> Iterator[BinaryIO]:
    folder = os.path.dirname(path)
    temporary = os.path.join(folder, f".{secrets.token_hex(8)}.new")  # without its name, which may be as long as it can
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(folder)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


# --- secrets ----------------------------------------------------------------------------------


def key_in(path: str) -> bytes:
    """A key: the bytes of the file as they are, if `hmac_signer` takes them."""
    key = _secret(path)
    try:
        hmac_signer(key)
    except ValueError as error:
        raise Usage(f"{shown(path, 200)}: {error}") from error
    return key


def token_in(path: str | None, variable: str) -> str | None:
    """A bearer token from a file or else the environment, trimmed; None where there is none."""
    if path is None and variable not in os.environ:
        return None
    where = variable if path is None else shown(path, 200)
    text = os.environ[variable] if path is None else _secret(path).decode("latin-1")
    token = text.strip()
    if TOKEN.fullmatch(token) is None:
        raise Usage(f"what is in {where} is no token: expected 1 to 4096 of A-Z a-z 0-9 . _ ~ + / - and = at its end")
    return token


def _secret(path: str) -> bytes:
    with open(path, "rb") as file:
        secret = file.read(SECRET_BYTES + 1)
    if len(secret) > SECRET_BYTES:
        raise Usage(f"{shown(path, 200)} has more than {SECRET_BYTES:,} bytes: it is no key or token")
    return secret
