"""What lies in a folder that an instance was published into, and how it is opened without being fooled.

Rules: a file's name is the SHA-256 of its bytes, so it never changes; the one file that does, the manifest, is replaced
by a rename and names all others. Everything is opened relative to the folder, by a name made of 64 hex digits, and is
read only if it is a regular file of the size that the manifest tells: no link is followed, no pipe waited for, nothing
is read beyond a bound. What is missing or shorter than told may still be on its way: `TransportError`. What is of
another kind, or is not what its name says, is `BundleError`.

    artdag-fed.json         {"artdag-fed folder": 1, "peer": "alice", "segments": [{"bundle": "<64 hex>",
                            "bytes": 1234, "records": 10, "index": "<64 hex>"}, ...]}
    <64 hex>.bundle         a segment: a bundle of some of the records
    <64 hex>.index          its records, a line each, LF at its end: cid, digest of the result, claim (32 hex)
    artdag-fed.lock         locked while someone publishes
    .artdag-fed-*           something that is not finished, or never will be

The claim is the SHA-256 of what else a record says, cut: whether it is signed and has a recipe, and its lineage.
`docs/wire-format.md` specifies every byte.

>>> Entry.of("c1", "0" * 64, frozenset(), recipe=False, signed=False).line()[:4]
b'c1 0'
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Iterable
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple

from artdag_fed.errors import BundleError, TransportError
from artdag_fed.names import Cid, PeerId, is_cid, is_digest, is_peer, shown

__all__ = ["Entry", "Folder", "HashedFile", "Manifest", "NewFile", "Segment"]

VERSION = 1
MANIFEST, LOCK, PART = "artdag-fed.json", "artdag-fed.lock", ".artdag-fed-"
MANIFEST_BYTES = 16 << 20  # some 60,000 segments, each of which may have thousands of records
LINE_BYTES = 128 + 1 + 64 + 1 + 32 + 1  # of an index, at most: the longest cid

_claim = re.compile(r"[0-9a-f]{32}", re.ASCII).fullmatch
_ours = re.compile(r"[0-9a-f]{64}\.(bundle|index)|\.artdag-fed-[0-9a-f]{16}", re.ASCII).fullmatch

# Non-blocking, since opening a pipe would wait for whoever writes to it.
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)  # as some network shares say
MAKE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Segment(NamedTuple):
    """One bundle of a folder: the SHA-256 of its file, its size and number of records, the SHA-256 of its index."""

    digest: str
    size: int
    records: int
    listing: str


class Manifest(NamedTuple):
    """What a folder offers, and who published it."""

    peer: PeerId
    segments: tuple[Segment, ...]

    def names(self) -> set[str]:
        """The files that it names."""
        return {f"{s.digest}.bundle" for s in self.segments} | {f"{s.listing}.index" for s in self.segments}


class Entry(NamedTuple):
    """One record of a segment, as its index tells it."""

    cid: Cid
    digest: str
    claim: str

    @classmethod
    def of(cls, cid: Cid, digest: str, lineage: Iterable[PeerId], *, recipe: bool, signed: bool) -> Entry:
        """The entry of a record that says this."""
        text = "\n".join(["artdag-fed claim v1", f"{recipe:d}{signed:d}", *sorted(lineage)])
        return cls(cid, digest, hashlib.sha256(text.encode()).hexdigest()[:32])

    def line(self) -> bytes:
        return " ".join(self).encode() + b"\n"


class HashedFile:
    """An open file of a known size, hashed as it is read. `check` says whether it was what its name says."""

    def __init__(self, file: BinaryIO, name: str, digest: str, size: int) -> None:
        self._file, self._name, self._digest, self._left = file, name, digest, size
        self._hash = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes, and none beyond the size that was told."""
        data = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        self._hash.update(data)
        return data

    def check(self) -> None:
        """`BundleError` unless all of it was read and is what its name says."""
        if self._left or self._hash.hexdigest() != self._digest:
            raise BundleError(f"{self._name} is not what its name says: it was damaged or changed; nothing was kept")


class Folder:
    """A folder, held open. Use it in a `with`; `make`: create it where it is missing (its parent must exist).

    An `OSError` comes out as a `TransportError` that names the folder. The folder itself may be reached through a link,
    since whoever calls has chosen it.
    """

    def __init__(self, path: str | os.PathLike[str], *, make: bool = False) -> None:
        self.path = os.fspath(path)
        self._make = make
        self._fd = -1

    def __enter__(self) -> Folder:
        with self.saying("opened"):
            if self._make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(self.path)
            self._fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def saying(self, what: str) -> _Saying:
        """A `with` in which an `OSError` becomes a `TransportError`: "... could not be `what`"."""
        return _Saying(f"the folder {shown(self.path, 200)} could not be {what}")

    # --- reading ------------------------------------------------------------------------------

    def manifest(self, most: int = MANIFEST_BYTES) -> Manifest | None:
        """What the folder offers; None where it has no manifest."""
        opened = self._open(MANIFEST)
        if opened is None:
            return None
        with opened as file, self.saying("read"):
            data = file.read(most + 1)
        if not data:
            raise TransportError(f"{self._named(MANIFEST)} is empty: it may be on its way still; try again later")
        if len(data) > most:
            raise BundleError(f"{self._named(MANIFEST)} has more than {most:,} bytes: nothing was read")
        return _parsed(data, self._named(MANIFEST))

    def entries(self, segment: Segment) -> list[Entry]:
        """The records of a segment, from its index, which has been checked."""
        name = f"{segment.listing}.index"
        with self._whole(name, None) as file, self.saying("read"):
            size = os.fstat(file.fileno()).st_size
            if size > segment.records * LINE_BYTES:
                raise BundleError(f"{self._named(name)} is too long for {segment.records} records: nothing was kept")
            hashed = HashedFile(file, self._named(name), segment.listing, size)
            data = hashed.read()
        hashed.check()
        try:
            found = [Entry(*line.split(" ")) for line in data.decode("ascii").split("\n")[:-1]]
        except (TypeError, ValueError):
            found = []
        whole = data.endswith(b"\n") and len(found) == segment.records
        if not (whole and all(is_cid(e.cid) and is_digest(e.digest) and _claim(e.claim) for e in found)):
            raise BundleError(f"{self._named(name)} is no list of {segment.records} records: nothing was kept")
        return found

    def open_segment(self, segment: Segment) -> tuple[BinaryIO, HashedFile]:
        """The open file, for whoever closes it, and the same to be read from."""
        name = f"{segment.digest}.bundle"
        file = self._whole(name, segment.size)
        return file, HashedFile(file, self._named(name), segment.digest, segment.size)

    def has(self, segment: Segment) -> bool:
        """Whether the segment's file is there, with the size that was told."""
        try:
            self._whole(f"{segment.digest}.bundle", segment.size).close()
        except (BundleError, TransportError):
            return False
        return True

    def _whole(self, name: str, size: int | None) -> BinaryIO:
        """A file that the manifest names, open; of that size where one is given."""
        file = self._open(name)
        if file is None:
            raise TransportError(
                f"{self._named(name)} is not there: it may be on its way still, or was replaced meanwhile; try again"
            )
        found = os.fstat(file.fileno()).st_size
        if size is not None and found != size:
            file.close()
            raise TransportError(
                f"{self._named(name)} has {found:,} bytes instead of {size:,}: it may be on its way still; try again"
            )
        return file

    def _open(self, name: str) -> BinaryIO | None:
        """A regular file of this folder, open; None where there is nothing under that name."""
        try:
            fd = os.open(name, READ, dir_fd=self._fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENXIO):  # a link (two ways to say it), a socket
                raise BundleError(f"{self._named(name)} is no regular file: links are not followed") from error
            raise TransportError(f"{self._named(name)} could not be opened: {error.strerror}") from error
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise BundleError(f"{self._named(name)} is no regular file: nothing was read from it")
        return open(fd, "rb")

    def _named(self, name: str) -> str:
        return shown(os.path.join(self.path, name), 300)

    # --- writing ------------------------------------------------------------------------------

    def lock(self) -> int | None:
        """Wait until nobody else publishes here; an open file to be closed, or None where files cannot be locked."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with self.saying("locked"):
            fd = os.open(LOCK, flags, 0o666, dir_fd=self._fd)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
            except BaseException as error:
                os.close(fd)
                if isinstance(error, OSError) and error.errno in NO_LOCKS:
                    return None
                raise
        return fd

    def new_file(self, ending: str = "") -> NewFile:
        """A file to be filled in a `with`; at its end it is synced and gets its name."""
        return NewFile(self, self._fd, ending)

    def replace_manifest(self, manifest: Manifest) -> None:
        """Make `manifest` the one that counts, in one step; all that it names is on the disk before."""
        segments = [
            {"bundle": s.digest, "bytes": s.size, "records": s.records, "index": s.listing} for s in manifest.segments
        ]
        document = {"artdag-fed folder": VERSION, "peer": manifest.peer, "segments": segments}
        data = json.dumps(document, indent=1).encode() + b"\n"
        if len(data) > MANIFEST_BYTES:
            raise TransportError(f"{self._named(MANIFEST)} would be too long: publish into several folders")
        with self.saying("synced"):
            os.fsync(self._fd)
        with self.new_file() as file:
            file.write(data)
        with self.saying("synced"):
            os.fsync(self._fd)

    def ours(self) -> set[str]:
        """The files that are here by names that only this module gives, apart from the manifest and the lock."""
        with self.saying("listed"):
            return set(filter(_ours, os.listdir(self._fd)))

    def remove(self, names: Iterable[str]) -> None:
        """Remove files; those that are gone already are no error."""
        with self.saying("cleared of what is not offered any more"):
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=self._fd)


class NewFile:
    """The writing end of a file that gets its name when it is complete: its digest and `ending`, or the manifest's."""

    def __init__(self, folder: Folder, folder_fd: int, ending: str) -> None:
        self._folder, self._fd, self._ending = folder, folder_fd, ending
        self._part = PART + secrets.token_hex(8)
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> str:
        """SHA-256 of what was written, in hex."""
        return self._hash.hexdigest()

    def __enter__(self) -> NewFile:
        with self._folder.saying("written"):
            self._file = open(os.open(self._part, MAKE, 0o666, dir_fd=self._fd), "wb")
        return self

    def write(self, data: bytes, /) -> int:
        with self._folder.saying("written"):
            self._file.write(data)
        self._hash.update(data)
        self.size += len(data)
        return len(data)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        name = f"{self.digest}.{self._ending}" if self._ending else MANIFEST
        try:
            with self._folder.saying("written"), self._file:
                if kind is None:
                    self._file.flush()
                    os.fsync(self._file.fileno())
            if kind is None:
                with self._folder.saying("written"):
                    os.replace(self._part, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        finally:
            with contextlib.suppress(OSError):  # it has its name, or is of no use
                os.unlink(self._part, dir_fd=self._fd)


class _Saying:
    def __init__(self, words: str) -> None:
        self._words = words

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if isinstance(error, OSError):
            raise TransportError(f"{self._words}: {error.strerror or error}") from error


def _parsed(data: bytes, name: str) -> Manifest:
    """The manifest that these bytes are, exactly; `BundleError` where they are none."""
    try:
        document = json.loads(data.decode(), object_pairs_hook=_once)
        version = document["artdag-fed folder"]
        if type(version) is int and version > VERSION:
            raise BundleError(f"{name} is of version {version}, newer than {VERSION}: a newer artdag_fed reads it")
        if version != VERSION or type(version) is not int or set(document) != {"artdag-fed folder", "peer", "segments"}:
            raise ValueError
        segments = tuple(map(_segment, document["segments"]))
        if not is_peer(document["peer"]) or len({s.digest for s in segments}) != len(segments):
            raise ValueError
    except BundleError:
        raise
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BundleError(f"{name} is no manifest of a published folder, or a damaged one") from error
    return Manifest(document["peer"], segments)


def _segment(member: Any) -> Segment:
    if set(member) != {"bundle", "bytes", "records", "index"}:
        raise ValueError
    segment = Segment(member["bundle"], member["bytes"], member["records"], member["index"])
    for digest in (segment.digest, segment.listing):
        if not is_digest(digest):  # it becomes a file's name: nothing else may
            raise ValueError
    if type(segment.size) is not int or type(segment.records) is not int or min(segment.size, segment.records) < 1:
        raise ValueError
    return segment


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError
    return made
