"""An instance in a folder: what is written, what is written again, and what becomes visible when."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import artdag_fed
import tests.vectors.make_folder as made
from artdag_fed import (
    BundleError,
    Codec,
    CodecError,
    Federation,
    FederationError,
    InvalidName,
    Record,
    TransportError,
    import_,
    invalidate,
    node,
    pull,
    run,
)
from artdag_fed.signing import hmac_signer, hmac_verifier
from artdag_fed.transports import folder as module
from artdag_fed.transports.folder import fetcher, publish
from tests.folders import MANIFEST, alice, fetched, files, manifest
from tests.instances import everyone


class Graded(NamedTuple):
    """A type of someone's own."""

    number: int
    gain: int


GRADED = Codec().with_type("graded", Graded, list, lambda pair: Graded(*pair))
KEY = b"a key that alice and bob share"


# --- publishing -----------------------------------------------------------------------------


def test_what_was_published_is_what_is_fetched(make: Callable[[], Federation], drive: Path) -> None:
    fed = make()
    for i, value in enumerate([None, 1, "text", b"\0" * 100_000, [1.5], (1, 2)]):
        fed.cache[f"c{i}"] = value
    fed = run(fed, node("op@1", n=1), lambda op, inputs, params: "computed").federation
    fed = import_(fed, [Record("f1", 7, "carol", {"dave"})], everyone)
    assert publish(fed, "alice", drive) == 8
    got = list(fetcher({"alice": drive})("alice"))
    expected = list(artdag_fed.export(fed, "alice"))
    assert sorted(got, key=lambda r: r.cid) == sorted(expected, key=lambda r: r.cid)
    assert {r.cid: r.lineage for r in got}["f1"] == {"carol", "dave"}
    assert sum(bool(r.recipe) for r in got) == 1


def test_an_empty_instance_is_published_as_nothing(drive: Path) -> None:
    assert publish(Federation(), "alice", drive) == 0
    assert len(fetched(drive)) == 0


@pytest.mark.usefixtures("small")
def test_publishing_again_writes_nothing(make: Callable[[], Federation], drive: Path) -> None:
    fed = make()
    fed = import_(fed, [Record(f"c{i}", i, "carol", {"dave"}) for i in range(39)], everyone)
    fed = run(fed, node("op@1", n=1), lambda op, inputs, params: "computed").federation
    assert publish(fed, "alice", drive) == 40
    before = files(drive)
    assert publish(fed, "alice", drive) == 0
    assert files(drive) == before


@pytest.mark.usefixtures("small")
def test_publishing_again_writes_only_what_is_new(drive: Path) -> None:
    fed = alice(10)
    publish(fed, "alice", drive)
    before = files(drive, ".bundle")
    assert len(before) == 3
    fed.cache["new"] = "new"
    assert publish(fed, "alice", drive) == 1
    after = files(drive, ".bundle")
    assert len(after) == 4 and before.items() <= after.items()
    assert len(fetched(drive)) == 11


@pytest.mark.usefixtures("small")
def test_what_is_no_longer_held_is_not_offered_and_its_bytes_are_gone(drive: Path) -> None:
    fed = import_(alice(10), [Record("bad", "from mallory", "mallory")], everyone)
    assert publish(fed, "alice", drive) == 11
    before = files(drive, ".bundle")
    fed = invalidate(fed, "mallory")
    assert publish(fed, "alice", drive) == 0  # its neighbours are written again, but were offered before
    after = files(drive, ".bundle")
    assert len(after) == 3 and len(before.items() & after.items()) == 2
    assert sorted(fetched(drive)) == sorted(alice(10))
    assert not any(b"from mallory" in p.read_bytes() for p in drive.iterdir())


def test_a_result_that_changed_is_offered_anew(drive: Path) -> None:
    fed = alice(3)
    publish(fed, "alice", drive)
    fed.cache["c1"] = "other"
    assert publish(fed, "alice", drive) == 1
    assert (fetched(drive).cache["c1"], len(fetched(drive))) == ("other", 3)


def test_a_lineage_a_recipe_and_a_signature_that_changed_are_offered_anew(drive: Path) -> None:
    step = node("op@1")
    fed = import_(Federation(), [Record(step.cid, 1, "carol", {"dave"})], everyone)
    assert publish(fed, "alice", drive) == 1
    fed = invalidate(fed, "carol")
    fed = import_(fed, [Record(step.cid, 1, "carol")], everyone)
    assert publish(fed, "alice", drive) == 1
    fed = import_(invalidate(fed, "carol"), [Record(step.cid, 1, "carol", recipe=step.recipe)], everyone)
    assert publish(fed, "alice", drive) == 1
    assert publish(fed, "alice", drive, sign=hmac_signer(KEY)) == 1
    assert publish(fed, "alice", drive, sign=hmac_signer(KEY)) == 0
    assert publish(fed, "alice", drive) == 1
    [record] = fetcher({"alice": drive})("alice")
    assert (set(record.lineage), record.recipe, record.signature) == ({"carol"}, step.recipe, b"")


def test_what_is_not_trusted_is_not_published(drive: Path) -> None:
    fed = import_(alice(2), [Record("bad", 1, "mallory"), Record("worse", 1, "bob", {"mallory"})], everyone)
    assert publish(fed, "alice", drive, trusted=lambda peer: peer != "mallory") == 2
    assert sorted(fetched(drive)) == ["c0", "c1"]


def test_what_is_no_longer_trusted_is_not_offered_any_more(drive: Path) -> None:
    fed = import_(alice(2), [Record("bad", 1, "mallory")], everyone)
    assert publish(fed, "alice", drive) == 3
    assert publish(fed, "alice", drive, trusted=lambda peer: peer != "mallory") == 0
    assert sorted(fetched(drive)) == ["c0", "c1"]


def test_what_came_back_from_others_does_not_rest_on_its_own_peer(drive: Path) -> None:
    fed = import_(Federation(), [Record("c1", 1, "bob", {"alice"}), Record("c2", 2, "alice")], everyone)
    assert (publish(fed, "alice", drive), publish(fed, "alice", drive)) == (2, 0)
    assert {r.cid: set(r.lineage) for r in fetcher({"alice": drive})("alice")} == {"c1": {"bob"}, "c2": set()}


def test_everything_is_on_the_disk_before_something_names_it(drive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut: each file is synced before it gets its name, and the folder before and after the manifest has."""
    trace, synced, real = list[str](), set[int](), {name: getattr(os, name) for name in ("fsync", "replace")}

    def fsync(fd: int) -> None:
        real["fsync"](fd)
        synced.add(os.fstat(fd).st_ino)
        trace.append("folder" if os.path.isdir(f"/proc/self/fd/{fd}") else "file")

    def replace(source: str, target: str, **options: Any) -> None:
        assert (drive / source).stat().st_ino in synced, target
        real["replace"](source, target, **options)
        trace.append(target[64:] if len(target) > 64 else target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    publish(alice(2), "alice", drive)
    expected = ["file", ".bundle", "file", ".index", "folder", "file", MANIFEST, "folder"]
    assert trace == expected


def test_signed_records_are_verified_by_whoever_pulls(drive: Path) -> None:
    publish(alice(3), "alice", drive, sign=hmac_signer(KEY))
    bob = pull(Federation(), fetcher({"m": drive}), "m", everyone, verify=hmac_verifier({"alice": KEY}))
    assert set(bob.provenance.values()) == {"alice"} and bob.report.admitted == 3


def test_many_small_segments_are_put_together(drive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SMALL_SEGMENTS", 5)
    fed = Federation()
    for i in range(13):
        fed.cache[f"c{i}"] = i
        assert publish(fed, "alice", drive) == 1
        assert len(files(drive, ".bundle")) <= 6
    assert len(fetched(drive)) == 13


def test_a_segment_is_bounded_in_bytes(drive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT_BYTES", 10_000)
    publish(Federation({f"c{i}": b"x" * 4000 for i in range(7)}), "alice", drive)
    assert [one["records"] for one in manifest(drive)["segments"]] == [3, 3, 1]


def test_a_segment_that_was_lost_or_damaged_is_written_again(drive: Path) -> None:
    fed = alice(3)
    publish(fed, "alice", drive)
    for ending in (".bundle", ".index"):
        for harm in (os.unlink, lambda name: os.truncate(name, 5)):
            [name] = files(drive, ending)
            harm(drive / name)
            publish(fed, "alice", drive)
            assert len(fetched(drive)) == 3


def test_a_folder_of_another_peer_is_refused(drive: Path) -> None:
    publish(alice(2), "alice", drive)
    before = files(drive)
    with pytest.raises(ValueError, match="is published by 'alice', not by 'bob'"):
        publish(alice(3), "bob", drive)
    assert files(drive) == before


def test_the_folder_of_an_instance_is_refused_and_left_as_it_is(drive: Path) -> None:
    fed = import_(artdag_fed.open(drive), [Record("c1", 1, "bob")], everyone)
    before = sorted(drive.rglob("*"))
    for one in (fed, alice(2)):
        with pytest.raises(ValueError, match=f"'{drive}' is an instance's own folder .*: choose another"):
            publish(one, "alice", drive)
    assert sorted(drive.rglob("*")) == before


def test_what_publish_did_not_make_is_left_alone(drive: Path) -> None:
    drive.mkdir()
    (drive / "README.txt").write_text("hello")
    (drive / "sub").mkdir()
    (drive / ("0" * 64 + ".bundle")).write_text("nobody names this")
    (drive / ".artdag-fed-0123456789abcdef").write_text("left behind by a crash")
    publish(alice(1), "alice", drive)
    assert {p.name for p in drive.iterdir() if len(p.name) < 64} == {"README.txt", "sub", MANIFEST, "artdag-fed.lock"}
    assert len(files(drive, ".bundle")) == 1 and len(fetched(drive)) == 1


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"artdag-fed folder": 2}', '{"name": "a web app"}', "\xff"])
def test_a_manifest_that_is_not_ours_is_not_written_over(drive: Path, text: str) -> None:
    drive.mkdir()
    (drive / MANIFEST).write_text(text, "latin-1")
    with pytest.raises(FederationError):
        publish(alice(1), "alice", drive)
    assert (drive / MANIFEST).read_text("latin-1") == text and not files(drive, ".bundle")


def test_wrong_arguments_are_refused_before_anything_is_written(drive: Path) -> None:
    with pytest.raises(InvalidName):
        publish(alice(), "a\nb", drive)
    with pytest.raises(TypeError):
        publish({}, "alice", drive)  # type: ignore[arg-type]
    assert not drive.exists()
    with pytest.raises(TransportError, match="No such file"):
        publish(alice(), "alice", drive / "deep" / "er")
    drive.write_text("a file")
    with pytest.raises(TransportError, match="Not a directory"):
        publish(alice(), "alice", drive)


def test_a_result_without_bytes_leaves_the_old_offer_and_no_litter(drive: Path) -> None:
    fed = alice(2)
    publish(fed, "alice", drive)
    before = set(files(drive))
    fed.cache["object"] = object()
    with pytest.raises(CodecError):
        publish(fed, "alice", drive)
    assert set(files(drive)) == before and len(fetched(drive)) == 2


def test_results_of_a_registered_type_are_decoded_by_the_codec_of_the_fetcher(drive: Path) -> None:
    publish(Federation(artdag_fed.MemoryCache({"c1": {"at": Graded(1, 2)}}, codec=GRADED)), "alice", drive)
    [record] = fetcher({"alice": drive}, codec=GRADED)("alice")
    assert record.result == {"at": Graded(1, 2)}
    [record] = fetcher({"alice": drive})("alice")
    with pytest.raises(CodecError):
        record.result  # noqa: B018  # decoded when it is asked for
    with pytest.raises(TypeError, match="codec must be a Codec, not str"):
        fetcher({"alice": drive}, codec="json")  # type: ignore[arg-type]  # wrongly


def test_results_of_a_registered_type_are_published_by_their_cache_s_codec(drive: Path, tmp_path: Path) -> None:
    class Point:
        pass

    codec = Codec().with_type("point", Point, lambda p: [], lambda _: Point())
    for count in (1, 0):
        fed = Federation(artdag_fed.MemoryCache({"c1": Point()}, codec=codec))
        assert publish(fed, "alice", drive) == count


# --- vectors ---------------------------------------------------------------------------------


VECTORS = Path(__file__).parent / "vectors"


def test_the_folder_beside_the_tests_is_what_the_page_about_it_says() -> None:
    """By the words of docs/wire-format.md alone, apart from the bundles, which have vectors of their own."""
    path, described = VECTORS / "folder-v1", json.loads((VECTORS / "folder.json").read_text("ascii"))
    document = json.loads((path / MANIFEST).read_text("utf-8"))
    assert document.keys() == {"artdag-fed folder", "peer", "segments"}
    assert (document["artdag-fed folder"], document["peer"]) == (1, described["peer"])
    lines, names = [], {MANIFEST}
    for segment in document["segments"]:
        assert segment.keys() == {"bundle", "bytes", "records", "index"}
        bundle = (path / f"{segment['bundle']}.bundle").read_bytes()
        index = (path / f"{segment['index']}.index").read_bytes()
        assert hashlib.sha256(bundle).hexdigest() == segment["bundle"] and len(bundle) == segment["bytes"]
        assert hashlib.sha256(index).hexdigest() == segment["index"]
        assert index.count(b"\n") == segment["records"] and index.endswith(b"\n")
        lines += index.decode("ascii").splitlines()
        names |= {f"{segment['bundle']}.bundle", f"{segment['index']}.index"}
    assert {file.name for file in path.iterdir()} == names and len(document["segments"]) == 2
    for line, record in zip(lines, described["records"], strict=True):
        text = "\n".join(["artdag-fed claim v1", f"{record['recipe']:d}{record['signed']:d}", *record["lineage"]])
        claim = hashlib.sha256(text.encode()).hexdigest()[:32]
        assert claim == record["claim"] and line == f"{record['cid']} {record['digest']} {claim}"


def test_the_folder_beside_the_tests_is_read_as_described_and_written_again_byte_by_byte(drive: Path) -> None:
    path, described = VECTORS / "folder-v1", json.loads((VECTORS / "folder.json").read_text("ascii"))
    assert made.described(path) == described
    verify = hmac_verifier({"alice": bytes.fromhex(described["hmac_sha256_key"])})
    fed = pull(Federation(), fetcher({"alice": path}), "alice", everyone, verify=verify)
    assert fed.report.admitted == len(described["records"]) == 4
    assert fed.cache["free-form"] == "text ä" and fed.lineage["from-bob"] == {"bob", "@studio@artdag.example"}
    made.published(drive)
    assert {f.name: f.read_bytes() for f in drive.iterdir()} == {f.name: f.read_bytes() for f in path.iterdir()}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32-le"])
def test_a_manifest_is_utf_8_and_nothing_else(drive: Path, encoding: str) -> None:
    made.published(drive)
    (drive / MANIFEST).write_text((drive / MANIFEST).read_text("ascii"), encoding)
    with pytest.raises(BundleError, match="is no manifest of a published folder"):
        fetched(drive)
