"""Large results of a durable cache, as files named by their digest, and the areas where they are laid ready.

Rules: a file in `blobs/` is complete and synced before it gets its name there, and gets it only under the index's
write lock; so whoever holds that lock and finds a name that no row has may remove it. What is not yet named lies in an
area of its own under `blobs/staging/`, locked for as long as its process lives: an area whose lock is free was
abandoned by a crash. Nothing here reads or writes the index; a digest is checked by whoever asked for the bytes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from artdag_fed.caches.disk_index import BLOBS, sync_folder
from artdag_fed.names import is_digest

__all__ = ["Area", "Blobs"]

SYNCS = 4  # files that are synced at once, behind the reading and hashing: also the bound on open files


class Blobs:
    """The `blobs/` folder of the cache in `folder`. Everything raises `OSError` as the file system gives it."""

    def __init__(self, folder: str) -> None:
        self.path = os.path.join(folder, BLOBS)
        self.staging = os.path.join(self.path, "staging")

    def read(self, digest: str, size: int) -> bytes:
        """The bytes under that name; none where what is there is no file of that size: a link, a folder, a pipe."""
        if not is_digest(digest):  # a damaged row could name anything
            return b""
        path = os.path.join(self.path, digest)
        found = os.lstat(path)
        if not stat.S_ISREG(found.st_mode) or found.st_size != size:
            return b""
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb", buffering=0) as file:
            parts = []
            while size > 0 and (part := file.read(size)):
                parts.append(part)
                size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def remove(self, digests: Iterable[str]) -> None:
        """Remove files that no row names. Only under the write lock. Nothing that a damaged index names elsewhere."""
        for digest in filter(is_digest, digests):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(self.path, digest))
        sync_folder(self.path)

    def names(self) -> list[str]:
        """The digests of all files that are there."""
        return [name for name in os.listdir(self.path) if is_digest(name)]

    def abandoned(self) -> list[str]:
        """The areas whose process died before it was done with them."""
        found = []
        for name in os.listdir(self.staging) if os.path.isdir(self.staging) else ():
            path = os.path.join(self.staging, name)
            if name.endswith(".lock"):
                if (fd := _try_lock(path)) is not None:
                    os.close(fd)
                    found.append(path.removesuffix(".lock"))
            elif not os.path.lexists(path + ".lock") and os.path.isdir(path):
                # The lock is made first and removed last (so it is looked for first: who has just gone has left
                # neither), but a power cut may keep one name of two and lose the other.
                found.append(path)
        return found

    def remove_area(self, path: str) -> None:
        """Remove an abandoned area; it is left alone where someone has come to hold its lock."""
        fd = _try_lock(path + ".lock")
        if fd is None:
            if not os.path.lexists(path + ".lock"):  # names are random: nobody can come to hold it
                shutil.rmtree(path, ignore_errors=True)
            return
        try:
            shutil.rmtree(path, ignore_errors=True)
            os.unlink(path + ".lock")
        finally:
            os.close(fd)


class Area:
    """A place where one process lays files ready. They are synced behind the caller's back; `settle` waits for that."""

    def __init__(self, blobs: Blobs) -> None:
        os.makedirs(blobs.staging, exist_ok=True)  # a copy made without empty folders is a cache, too
        self._blobs = blobs
        self._published = False
        while True:
            self.path = os.path.join(blobs.staging, secrets.token_hex(8))
            self._lock = os.open(self.path + ".lock", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            if os.fstat(self._lock).st_nlink:  # else someone took it for abandoned between the two lines above
                break
            os.close(self._lock)
        try:
            os.mkdir(self.path)
            sync_folder(blobs.staging)  # after a power cut the area is found, and with it the wish to sweep
        except BaseException:
            os.close(self._lock)  # the next process finds it abandoned
            raise
        self._pool = ThreadPoolExecutor(SYNCS, thread_name_prefix="artdag_fed-sync")
        self._syncing: list[Future[None]] = []
        self._written: set[str] = set()

    def write(self, digest: str, payload: bytes) -> None:
        """Lay a file ready; its bytes are synced in the background."""
        if digest in self._written:
            return
        self._written.add(digest)
        fd = os.open(os.path.join(self.path, digest), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            view = memoryview(payload)
            while view:
                view = view[os.write(fd, view) :]
        except BaseException:
            os.close(fd)
            raise
        self._syncing.append(self._pool.submit(_sync_and_close, fd))
        if len(self._syncing) >= 2 * SYNCS:
            self._syncing.pop(0).result()

    def settle(self) -> None:
        """Wait until everything that was written is on the disk; raise what went wrong."""
        while self._syncing:
            self._syncing.pop(0).result()

    def publish(self, digests: Iterable[str]) -> None:
        """Give these files their names. Only under the write lock, before the rows are committed; then `committed`."""
        self._published = True
        for digest in digests:
            # Over one that may be there already: the bytes are the same, and if they are not, these are right.
            os.replace(os.path.join(self.path, digest), os.path.join(self._blobs.path, digest))
        sync_folder(self._blobs.path)

    def committed(self) -> None:
        """The rows that name what was published are on the disk."""
        self._published = False

    def close(self) -> None:
        """Remove the area with what is still in it. If files got names and their rows were not committed, the area's
        lock file is left behind like that of a crash, so that the next one sweeps."""
        self._pool.shutdown(wait=True)  # each closes its own file
        self._syncing.clear()
        shutil.rmtree(self.path, ignore_errors=True)
        if not self._published:
            with contextlib.suppress(OSError):
                os.unlink(self.path + ".lock")
        os.close(self._lock)


def _sync_and_close(fd: int) -> None:
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _try_lock(path: str) -> int | None:
    """An open, locked file descriptor of an existing lock file, or None where it is gone or held."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(fd).st_nlink:
            return fd
    except BlockingIOError:
        pass
    os.close(fd)
    return None
