"""An instance in a folder: what is read of it, and what a folder cannot make us do."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import artdag_fed
from artdag_fed import BundleError, Federation, InvalidName, Limits, Record, StoreError, TransportError, pull
from artdag_fed.transports.folder import fetcher, publish
from tests.folders import MANIFEST, alice, fetched, files, manifest, offered
from tests.instances import everyone


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    document = manifest(path)
    change(document)
    (path / MANIFEST).write_text(json.dumps(document))


def opened(monkeypatch: pytest.MonkeyPatch, what: Callable[[], object]) -> list[str]:
    """The names of the segments that are opened meanwhile."""
    names, real = list[str](), os.open

    def open_(name: Any, *args: Any, **kwargs: Any) -> int:
        names.append(str(name))
        return real(name, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", open_)
        what()
    return [name for name in names if name.endswith(".bundle")]


@pytest.mark.usefixtures("small")
def test_a_segment_of_which_all_is_known_is_not_read_again(drive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fed = alice(10)
    publish(fed, "alice", drive)
    bob = fetched(drive)
    fed.cache["new"] = 1
    publish(fed, "alice", drive)

    def again() -> None:
        nonlocal bob
        bob = pull(bob, fetcher({"alice": drive}, known=bob), "alice", everyone)

    assert len(opened(monkeypatch, again)) == 1
    assert (bob.report.admitted, bob.report.unchanged, len(bob)) == (1, 0, 11)
    assert opened(monkeypatch, again) == []
    assert len(opened(monkeypatch, lambda: fetched(drive, known={"c0", "c1", "c2"}))) == 4


def test_a_fetch_says_whether_it_leaves_things_out_and_what_is_offered(drive: Path) -> None:
    publish(alice(3), "alice", drive)
    fetch = fetcher({"alice": drive})
    assert (fetch.partial, fetcher({"alice": drive}, known=set()).partial) == (False, True)
    digest = Record("c1", "result 1", "alice").digest
    assert fetch.digests("alice", ["c1", "absent"]) == {"c1": digest}
    assert fetch.digests("alice", []) == {}


def test_a_folder_that_is_synced_half_is_told_apart_and_nothing_is_kept(drive: Path) -> None:
    publish(alice(3), "alice", drive)
    [bundle], [index] = files(drive, ".bundle"), files(drive, ".index")
    whole = {name: (drive / name).read_bytes() for name in (bundle, index, MANIFEST)}
    for name in (bundle, MANIFEST):
        for size in (None, 0, *([len(whole[name]) - 1] if name == bundle else [])):
            (drive / name).unlink() if size is None else (drive / name).write_bytes(whole[name][:size])
            bob = Federation({"mine": 1})
            with pytest.raises(TransportError, match="on its way"):
                pull(bob, fetcher({"alice": drive}), "alice", everyone)
            assert list(bob) == ["mine"]
            (drive / name).write_bytes(whole[name])
    (drive / index).unlink()
    assert len(fetched(drive)) == 3  # it is only needed for what is known
    with pytest.raises(TransportError, match="on its way"):
        fetched(drive, known={"c0"})


@pytest.mark.slow
def test_every_single_bit_flip_in_a_folder_is_refused(drive: Path) -> None:
    publish(alice(2), "alice", drive)
    expected = {cid: alice(2).cache[cid] for cid in alice(2)}
    for ending in (".bundle", ".index"):
        [name] = files(drive, ending)
        whole = (drive / name).read_bytes()
        for bit in range(8 * len(whole)):
            changed = bytearray(whole)
            changed[bit // 8] ^= 1 << bit % 8
            (drive / name).write_bytes(changed)
            with pytest.raises(BundleError):
                fetched(drive, known={"c0"} if ending == ".index" else None)
        (drive / name).write_bytes(whole)
        assert offered(drive) == expected


def test_a_file_behind_its_bundle_is_refused(drive: Path) -> None:
    publish(alice(2), "alice", drive)
    [name] = files(drive, ".bundle")
    data = (drive / name).read_bytes() + b"more"
    digest = hashlib.sha256(data).hexdigest()
    (drive / f"{digest}.bundle").write_bytes(data)
    rewrite(drive, lambda document: document["segments"][0].update(bundle=digest, bytes=len(data)))
    with pytest.raises(BundleError):
        fetched(drive)


def _link(path: Path, target: Path) -> None:
    os.symlink(target, path)


def _socket(path: Path, _: Path) -> None:
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(path.parent)  # a socket's path may only have a hundred characters
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind("s")
        os.rename("s", path.name)
    finally:
        os.fchdir(here)
        os.close(here)


KINDS: dict[str, Callable[[Path, Path], object]] = {
    "a link to the same bytes": _link,
    "a pipe": lambda path, _: os.mkfifo(path),
    "a folder": lambda path, _: path.mkdir(),
    "a socket": _socket,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ending", [".bundle", ".index", MANIFEST])
def test_links_pipes_folders_and_sockets_are_refused_at_once(
    drive: Path, tmp_path: Path, kind: str, ending: str
) -> None:
    publish(alice(2), "alice", drive)
    [name] = files(drive, ending)
    aside = tmp_path / "aside"
    os.rename(drive / name, aside)
    KINDS[kind](drive / name, aside)
    began = time.monotonic()
    with pytest.raises(BundleError, match="regular file"):
        fetched(drive, known={"c0"})
    if ending == MANIFEST:
        with pytest.raises(BundleError, match="regular file"):
            publish(alice(3), "alice", drive)
    assert time.monotonic() - began < 5


def test_a_lock_that_is_a_link_is_not_followed(drive: Path, tmp_path: Path) -> None:
    drive.mkdir()
    os.symlink(tmp_path / "elsewhere", drive / "artdag-fed.lock")
    with pytest.raises(TransportError):
        publish(alice(1), "alice", drive)
    assert not (tmp_path / "elsewhere").exists()


HOSTILE: dict[str, Callable[[dict[str, Any]], object]] = {
    "a path that leads outside": lambda d: d["segments"][0].update(bundle="../" + "0" * 61),
    "an absolute path": lambda d: d["segments"][0].update(index="/etc/passwd"),
    "upper-case digits": lambda d: d["segments"][0].update(bundle="A" * 64),
    "a digest with a line end": lambda d: d["segments"][0].update(bundle="0" * 64 + "\n"),
    "a number for a digest": lambda d: d["segments"][0].update(bundle=0),
    "a size below zero": lambda d: d["segments"][0].update(bytes=-1),
    "a size that is no integer": lambda d: d["segments"][0].update(bytes=1e3),
    "true for a number": lambda d: d["segments"][0].update(records=True),
    "no records": lambda d: d["segments"][0].update(records=0),
    "a segment twice": lambda d: d["segments"].append(d["segments"][0]),
    "a member too many": lambda d: d["segments"][0].update(more=1),
    "a member too few": lambda d: d["segments"][0].pop("index"),
    "segments that are no list": lambda d: d.update(segments={"0" * 64: 1}),
    "a segment that is a text": lambda d: d.update(segments=["0" * 64]),
    "a peer that is none": lambda d: d.update(peer="a\u202eb"),
    "something more": lambda d: d.update(more=1),
    "a version that is true": lambda d: d.update({"artdag-fed folder": True}),
    "another number of records": lambda d: d["segments"][0].update(records=1),
}


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_manifest_that_lies_is_refused(drive: Path, hostile: str) -> None:
    publish(alice(2), "alice", drive)
    rewrite(drive, HOSTILE[hostile])
    with pytest.raises(BundleError):
        fetched(drive)


def test_a_manifest_with_a_key_twice_is_refused(drive: Path) -> None:
    publish(alice(2), "alice", drive)
    text = (drive / MANIFEST).read_text().rstrip()
    (drive / MANIFEST).write_text(text[:-1] + ', "segments": []}')
    with pytest.raises(BundleError):
        fetched(drive)


def test_a_manifest_of_a_newer_version_says_so(drive: Path) -> None:
    publish(alice(2), "alice", drive)
    rewrite(drive, lambda document: document.update({"artdag-fed folder": 2}))
    for call in (lambda: fetched(drive), lambda: publish(alice(3), "alice", drive)):
        with pytest.raises(BundleError, match="version 2, newer than 1"):
            call()


@pytest.mark.parametrize("text", ['{"a":1,"a":1}', "[" * 100_000, "1" * 5000, "NaN", b"\x80".decode("latin-1")])
def test_a_manifest_that_is_no_such_json_is_refused(drive: Path, text: str) -> None:
    drive.mkdir()
    (drive / MANIFEST).write_text(text, "latin-1")
    with pytest.raises(BundleError):
        fetched(drive)


def test_sizes_are_bounded_before_anything_is_read(drive: Path) -> None:
    publish(alice(10), "alice", drive)
    size = manifest(drive)["segments"][0]["bytes"]
    assert len(fetched(drive, limits=Limits(records=10, bytes=size))) == 10
    with pytest.raises(BundleError, match="records"):
        fetched(drive, limits=Limits(records=9))
    with pytest.raises(BundleError, match="bytes"):
        fetched(drive, limits=Limits(bytes=size - 1))
    with open(drive / MANIFEST, "r+b") as file:
        file.truncate(1 << 40)  # a file with a hole: it takes no room
    with pytest.raises(BundleError, match="more than 16,777,216 bytes"):
        fetched(drive)
    [index] = files(drive, ".index")
    publish(alice(10), "alice", drive.with_name("other"))
    os.truncate(drive.with_name("other") / index, 1 << 40)
    with pytest.raises(BundleError, match="too long for 10 records"):
        fetched(drive.with_name("other"), known=set())


@pytest.mark.usefixtures("small")
def test_the_limits_are_those_of_all_segments_together(drive: Path) -> None:
    publish(alice(10), "alice", drive)
    assert len(manifest(drive)["segments"]) == 3
    with pytest.raises(BundleError, match=r"Limits\.records"):
        fetched(drive, limits=Limits(records=9))
    total = sum(one["bytes"] for one in manifest(drive)["segments"])
    with pytest.raises(BundleError, match=r"Limits\.bytes"):
        fetched(drive, limits=Limits(bytes=total - 1))


@pytest.mark.parametrize(
    "text", ["", "c0 1 2\n", "c0 " + "0" * 64 + " " + "0" * 32, "\n\n", "é " + "0" * 64 + " " + "0" * 32 + "\n" * 2]
)
def test_an_index_that_is_none_is_refused(drive: Path, text: str) -> None:
    publish(alice(2), "alice", drive)
    digest = hashlib.sha256(text.encode()).hexdigest()
    (drive / f"{digest}.index").write_text(text)
    rewrite(drive, lambda document: document["segments"][0].update(index=digest))
    with pytest.raises(BundleError):
        fetched(drive, known=set())


def test_what_cannot_be_reached_is_a_transport_error_that_names_it(drive: Path) -> None:
    with pytest.raises(TransportError, match="drive' could not be opened: No such file"):
        fetched(drive)
    with pytest.raises(TransportError, match="no folder is known for 'bob'"):
        fetcher({"alice": drive})("bob")
    drive.mkdir()
    with pytest.raises(TransportError, match="has no manifest"):
        fetched(drive)


def test_wrong_arguments_of_a_fetcher_are_refused_when_it_is_made(drive: Path) -> None:
    with pytest.raises(TypeError, match="mapping"):
        fetcher(drive)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="folders is empty"):
        fetcher({})
    with pytest.raises(InvalidName):
        fetcher({"a\nb": drive})
    with pytest.raises(TypeError, match="known"):
        fetcher({"alice": drive}, known=5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="limits"):
        fetcher({"alice": drive}, limits=5)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        fetcher({"alice": 5})  # type: ignore[dict-item]


def test_a_reading_that_is_broken_off_leaves_no_file_open(drive: Path) -> None:
    publish(alice(3), "alice", drive)
    before = set(os.listdir("/proc/self/fd"))
    records: Iterator[Record] = iter(fetcher({"alice": drive})("alice"))
    next(records)
    records.close()  # type: ignore[attr-defined]  # it is a generator
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_store_that_fails_while_it_is_published_is_named_as_such(drive: Path, tmp_path: Path) -> None:
    fed = artdag_fed.open(tmp_path / "alice")
    fed.cache["c1"] = 1
    fed.cache.close()  # type: ignore[attr-defined]
    with pytest.raises(StoreError):
        publish(fed, "alice", drive)
