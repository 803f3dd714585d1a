"""Publish an instance into a folder, and fetch from one: a shared drive, a synced or a statically hosted directory.

Rules: what is published becomes visible in one step, when the manifest is replaced; publishing again writes only what
is new, and what is no longer held is not offered any more. Fetching reads only what the manifest names, checks every
byte against the name of its file, and changes nothing. Whoever can write to the folder can put anything into it: where
others can, sign (`publish(..., sign=...)`) and pull with `verify`. One folder for each peer that publishes.

>>> import tempfile
>>> from artdag_fed import Federation, pull
>>> drive = tempfile.mkdtemp()
>>> publish(Federation({"c1": "a frame"}), "alice", drive)
1
>>> pull(Federation(), fetcher({"alice": drive}), "alice", {"alice"}.__contains__).provenance
{'c1': 'alice'}
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Iterator, Mapping
from itertools import chain

from artdag_fed.bundle import read_bundle, write_bundle
from artdag_fed.cache import OriginCache
from artdag_fed.caches.disk_index import INDEX
from artdag_fed.callables import Sign, Trust
from artdag_fed.codec import Codec, codec_or_default
from artdag_fed.errors import BundleError, TransportError
from artdag_fed.federation import Federation, export
from artdag_fed.instance import cache_of
from artdag_fed.limits import Limits, check_limits
from artdag_fed.names import Cid, PeerId, check_peer, shown
from artdag_fed.record import Record
from artdag_fed.transports.folder_layout import Entry, Folder, Manifest, Segment

__all__ = ["FolderFetch", "fetcher", "publish"]

Path = str | os.PathLike[str]

SEGMENT_BYTES = 64 << 20  # payloads in a segment: what a sync tool moves, and a change has written again, at once
SEGMENT_RECORDS = 10_000  # likewise for small results, whose number is what costs
SMALL_SEGMENTS = 64  # so many segments under an eighth of that size are put together: a daily publisher's two months


# --- publishing -----------------------------------------------------------------------------


def publish(
    fed: Federation, peer_id: PeerId, path: Path, *, trusted: Trust | None = None, sign: Sign | None = None
) -> int:
    """Offer the results of `fed` in the folder `path` as records of `peer_id`; how many were not offered before.

    path: made where it is missing; its parent must exist. trusted, sign: as for `export`. Publishing again writes what
    is new or changed, and stops offering what is no longer held, or no longer trusted: segments that had such records
    are written again without them, and the old ones removed. A record that was signed before is not signed again with
    another key: a new key has a new peer's name, and a folder of its own.

    Whoever reads meanwhile sees the old offer, or the new one, or gets a `TransportError` and tries again; a publisher
    that is killed leaves the old one. Two publishers wait for each other; where the file system has no locks, the last
    one wins. Durable when it returns. Changes nothing in `fed`. What the folder says was published is believed: where
    someone else has changed it, empty it and publish anew.

    Raises `ValueError` where the folder is another peer's, or an instance's own; `TransportError` where it cannot be
    read or written; `BundleError` where its manifest is damaged or of a newer version; `CodecError` for a result (in
    memory) that has no bytes; and what `export` raises. Then the old offer stands.
    """
    cache = cache_of(fed)
    offered = export(fed, peer_id, trusted=trusted, sign=sign).cids
    if os.path.lexists(os.path.join(path, INDEX)):
        raise ValueError(f"{shown(os.fspath(path), 200)} is an instance's own folder (it has {INDEX}): choose another")
    with Folder(path, make=True) as folder:
        lock = folder.lock()
        try:
            old = folder.manifest()
            if old is not None and old.peer != peer_id:
                raise ValueError(
                    f"{shown(os.fspath(path), 200)} is published by {shown(old.peer)}, not by {shown(peer_id)}: choose "
                    "another folder, or empty this one"
                )
            segments = () if old is None else old.segments
            kept, left, before = _sorted(cache, peer_id, folder, segments, offered, sign is not None)
            written, count = list[Segment](), 0
            records = iter(export(fed, peer_id, left, trusted=trusted, sign=sign))
            for segment, entries in _segments(folder, records):
                written.append(segment)
                count += sum(entry not in before for entry in entries)
            new = Manifest(peer_id, (*kept, *written))
            if new != old:
                folder.replace_manifest(new)
            # Under the lock, what nobody names is nobody's; without one, it may be what another is about to name.
            doomed = folder.ours() if lock is not None else set() if old is None else old.names()
            folder.remove(doomed - new.names())
        finally:
            if lock is not None:
                os.close(lock)
    return count


def _sorted(
    cache: OriginCache,
    peer_id: PeerId,
    folder: Folder,
    segments: Iterable[Segment],
    offered: tuple[Cid, ...],
    signed: bool,
) -> tuple[list[Segment], list[Cid], set[Entry]]:
    """The segments that stay as they are, the cids that are to be written, and which entries of those are no news."""
    left = dict.fromkeys(offered)
    kept, small, before = set[Segment](), dict[Segment, list[Entry]](), set[Entry]()
    recipes: frozenset[Cid] | None = None
    for segment in segments:
        try:
            entries = folder.entries(segment)
        except (BundleError, TransportError):  # damaged, or gone: its records are written again
            continue
        if recipes is None:
            recipes = frozenset(cid for cid, _ in cache.recipes())
        same = {entry for entry in entries if entry.cid in left} & _now(cache, peer_id, entries, recipes, signed)
        if len(same) < len(entries) or not folder.has(segment):
            before |= same
            continue
        kept.add(segment)
        if segment.size < SEGMENT_BYTES // 8 and segment.records < SEGMENT_RECORDS // 8:
            small[segment] = entries
        for entry in entries:
            del left[entry.cid]
    if len(small) >= SMALL_SEGMENTS:
        kept -= small.keys()
        for entries in small.values():
            before.update(entries)
            left.update((entry.cid, None) for entry in entries)
    return [segment for segment in segments if segment in kept], list(left), before


def _now(
    cache: OriginCache, peer_id: PeerId, entries: list[Entry], recipes: frozenset[Cid], signed: bool
) -> set[Entry]:
    """What an index would say of these cids now; those that are not held are left out."""
    found = set[Entry]()
    for cid, held in cache.held(entry.cid for entry in entries).items():
        digest = held.digest
        if not digest:  # in memory, where nobody asked for it yet
            stored = cache.stored(cid)
            digest = "" if stored is None else Record(cid, stored.value, peer_id, codec=cache.codec).digest
        lineage = held.origin.peers - {peer_id}
        found.add(Entry.of(cid, digest, lineage, recipe=cid in recipes, signed=signed))
    return found


def _segments(folder: Folder, records: Iterator[Record]) -> Iterator[tuple[Segment, list[Entry]]]:
    """Write records into as many segments as it takes."""
    for first in records:
        entries = list[Entry]()
        with folder.new_file("bundle") as bundle:
            write_bundle(bundle, _portion(first, records, entries))
        with folder.new_file("index") as index:
            index.write(b"".join(entry.line() for entry in entries))
        yield Segment(bundle.digest, bundle.size, len(entries), index.digest), entries


def _portion(first: Record, more: Iterator[Record], entries: list[Entry]) -> Iterator[Record]:
    """The records of one segment; each is entered into `entries`."""
    size = 0
    for record in chain([first], more):
        lineage, recipe, signed = record.lineage, bool(record.recipe), bool(record.signature)
        entries.append(Entry.of(record.cid, record.digest, lineage, recipe=recipe, signed=signed))
        size += len(record.payload)
        yield record
        if size >= SEGMENT_BYTES or len(entries) >= SEGMENT_RECORDS:
            return


# --- fetching -------------------------------------------------------------------------------


def fetcher(
    folders: Mapping[PeerId, Path],
    *,
    known: Container[Cid] | None = None,
    limits: Limits = Limits(),
    codec: Codec | None = None,
) -> FolderFetch:
    """A `Fetch` from folders, by peer.

    known: cids that are held already (a `Federation` is a container of them): a segment of which all are known is not
    read; it should be an instance's own, since what changed at the peer under a known cid is not seen either. limits:
    bounds on all segments of a folder together; here `bytes` are those of the files. codec: what results are decoded
    with, as for `read_bundle`.

    Calling it reads the manifest, iterating the rest. `TransportError` where no folder is known for a peer, or a file
    is missing or incomplete, as in a folder that is being synced; `BundleError` where one is damaged, a link or a pipe,
    or is over a limit. Then nothing counts. Raises `ValueError` for no folders; `InvalidName`, `TypeError`.
    """
    if not isinstance(folders, Mapping):
        raise TypeError(f"folders must be a mapping of peer -> path, not {type(folders).__name__}")
    if known is not None and not isinstance(known, Container):
        raise TypeError(f"known must be a container of cids, not {type(known).__name__}")
    check_limits(limits)
    codec = codec_or_default(codec)
    paths = {check_peer(peer): os.fspath(path) for peer, path in folders.items()}
    if not paths:
        raise ValueError("folders is empty: name at least one peer, {peer: path}")
    return FolderFetch(paths, known, limits, codec)


class FolderFetch:
    """What `fetcher` gives. `partial`: whether it leaves out what is known."""

    def __init__(
        self, folders: Mapping[PeerId, str], known: Container[Cid] | None, limits: Limits, codec: Codec
    ) -> None:
        self._folders = folders
        self._known = known
        self._limits = limits
        self._codec = codec
        self.partial = known is not None

    def __call__(self, peer: PeerId, /) -> Iterator[Record]:
        return self._records(*self._manifest(peer))

    def digests(self, peer: PeerId, cids: Iterable[Cid]) -> dict[Cid, str]:
        """Which of these the folder offers, with the digests of their results as its indexes claim."""
        path, manifest = self._manifest(peer)
        wanted, found = frozenset(cids), dict[Cid, str]()
        with Folder(path) as folder:
            for segment in manifest.segments if wanted else ():
                found.update((e.cid, e.digest) for e in folder.entries(segment) if e.cid in wanted)
        return found

    def _manifest(self, peer: PeerId) -> tuple[str, Manifest]:
        path = self._folders.get(peer)
        if path is None:
            raise TransportError(f"no folder is known for {shown(peer)}: name it in fetcher({{peer: path}})")
        with Folder(path) as folder:
            manifest = folder.manifest()
        if manifest is None:
            raise TransportError(
                f"{shown(path, 200)} has no manifest: nothing was published there, or it is on its way"
            )
        return path, manifest

    def _records(self, path: str, manifest: Manifest) -> Iterator[Record]:
        limits = self._limits
        records, size = limits.records, limits.bytes  # what is left of them
        with Folder(path) as folder:
            for segment in manifest.segments:
                if self._known is not None and _all_in(self._known, [entry.cid for entry in folder.entries(segment)]):
                    continue
                records -= segment.records
                size -= segment.size
                if min(records, size) < 0:
                    raise BundleError(
                        f"{shown(path, 200)} has more than {limits.records:,} records (Limits.records) or "
                        f"{limits.bytes:,} bytes (Limits.bytes): nothing was kept"
                    )
                count = 0
                file, hashed = folder.open_segment(segment)
                with file, folder.saying("read"):
                    for record in read_bundle(hashed, limits, codec=self._codec):
                        count += 1
                        yield record
                    hashed.check()
                if count != segment.records:
                    raise BundleError(
                        f"a segment in {shown(path, 200)} has {count} records, not {segment.records}: nothing was kept"
                    )


def _all_in(known: Container[Cid], cids: list[Cid]) -> bool:
    if isinstance(known, Federation):  # a query for all of them takes a tenth of the time of one for each
        known = cache_of(known).held(cids)
    return all(cid in known for cid in cids)
