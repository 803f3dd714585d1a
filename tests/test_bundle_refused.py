"""Bundles: a stream that is none, or was changed in any way, counts for nothing."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import io
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artdag_fed import BundleError, Federation, Record, import_, read_bundle, write_bundle
from artdag_fed.bundle import MAGIC
from tests.bundles import everyone, header, read, some, stream_of, written

# --- streams that are none ------------------------------------------------------------------


def test_a_true_stream_made_by_hand_is_read() -> None:
    [record] = read(stream_of((header(), b"J1")))
    assert (record.cid, record.peer, record.payload, record.digest) == (
        "c1",
        "alice",
        b"J1",
        Record("c", 1, "a").digest,
    )
    assert stream_of((header(), b"J1")) == written([Record("c1", 1, "alice")])


@pytest.mark.parametrize("version", [2, 9, 10, 99])
def test_a_newer_version_is_refused_and_the_message_says_so(version: int) -> None:
    stream = written(some(3)).replace(b"v1\n", b"v%d\n" % version, 1)
    with pytest.raises(BundleError, match=f"version {version}, with 1 the newest .*update artdag_fed"):
        read(stream)


@pytest.mark.parametrize(
    "stream",
    [b"{" * 100, b"PK\x03\x04" + bytes(100), MAGIC.upper() + bytes(48), MAGIC.replace(b"v1", b"v0") + bytes(48)],
)
def test_something_else_is_refused_by_its_first_bytes(stream: bytes) -> None:
    with pytest.raises(BundleError) as refused:
        read(stream)
    assert str(refused.value) == f"no bundle: it begins with {stream[: len(MAGIC)]!r} instead of {MAGIC!r}"


@pytest.mark.parametrize(
    ("fp", "what"), [(None, "NoneType"), ("out.bundle", "str"), (io.StringIO(), "StringIO, which is for text")]
)
def test_what_no_bundle_can_be_written_to_is_a_type_error_that_says_what_is_needed(fp: Any, what: str) -> None:
    with pytest.raises(TypeError, match=f"a bundle is written to a binary file, not to {what}$"):
        write_bundle(fp, [])


def test_an_empty_stream_is_no_bundle() -> None:
    with pytest.raises(BundleError, match="an empty stream"):
        read(b"")


def test_every_truncation_is_told_as_one_and_nothing_counts() -> None:
    stream = written(some(30))
    for length in range(1, len(stream)):
        with pytest.raises(BundleError, match="cut off"):
            read(stream[:length])


@pytest.mark.parametrize("more", [b"\n", b"\0", written([])])
def test_anything_behind_the_trailer_is_refused(more: bytes) -> None:
    with pytest.raises(BundleError, match="followed by something else"):
        read(written(some(3)) + more)


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"\0\0\0\1\0\0\0", id="no room for two counts"),
        pytest.param(b"\0\0\0\1\0\0\0\1", id="counts and nothing else"),
        pytest.param(header(n=0, m=0, places=[], lineages=[], sizes=[], recipes=[], signed=[]), id="no records"),
        pytest.param(header(m=0, lineages=[]), id="no origins"),
        pytest.param(header(m=2, lineages=[0, 0], names="alice\nbob\nc1"), id="more origins than records"),
        pytest.param(header(n=2**32 - 1), id="as many records as can be said"),
        pytest.param(header(places=[1]), id="an origin that is not there"),
        pytest.param(
            header(lineages=[0, 0], places=[0, 0], sizes=[1, 1], recipes=[0, 0], signed=[0, 0], names="a\nb\nc\nd"),
            id="an origin that no record has",
        ),
        pytest.param(
            header(lineages=[0, 0], places=[1, 0], sizes=[1, 1], recipes=[0, 0], signed=[0, 0], names="a\nb\nc\nd"),
            id="origins in another order",
        ),
        pytest.param(
            header(lineages=[0, 0], places=[0, 1], sizes=[1, 1], recipes=[0, 0], signed=[0, 0], names="a\na\nc\nd"),
            id="the same origin twice",
        ),
        pytest.param(header(lineages=[2], names="a\nz\nb\nc"), id="a lineage out of order"),
        pytest.param(header(lineages=[2], names="a\nb\nb\nc"), id="a lineage that has a peer twice"),
        pytest.param(header(lineages=[2**32 - 1]), id="a lineage as long as can be said"),
        pytest.param(header(names="alice"), id="a name too few"),
        pytest.param(header(names="alice\nc1\n"), id="a line end behind the names"),
        pytest.param(header(names=b"alice\nc\xff"), id="names that are not UTF-8"),
        pytest.param(header(names=b"alice\nc\xed\xa0\x80"), id="half a surrogate pair"),
        pytest.param(header(signed=[2**32 - 1]), id="a signature as long as can be said"),
        pytest.param(header(signed=[3], signatures=b"ss", names=""), id="a signature over the end"),
    ],
)
def test_a_header_that_no_writer_makes_is_refused(head: bytes) -> None:
    """Before its records are given: the trailer of each of these is true."""
    got = []
    with pytest.raises(BundleError, match="altered, or whoever wrote it does not keep to the format"):
        got.extend(read_bundle(io.BytesIO(stream_of((head, b"J1")))))
    assert got == []


@pytest.mark.parametrize("count", [0, 2, 2**64 - 1])
def test_a_trailer_with_another_count_is_refused(count: int) -> None:
    with pytest.raises(BundleError, match="its trailer does not fit"):
        read(stream_of((header(), b"J1"), count=count))


def test_blocks_that_changed_places_are_told_by_the_trailer() -> None:
    one, other = (header(), b"J1"), (header(names="alice\nc2"), b"J2")
    true, changed = stream_of(one, other), stream_of(other, one)
    with pytest.raises(BundleError, match="altered: its trailer"):
        read(changed[:-32] + true[-32:])


def test_a_block_that_was_left_out_is_told_by_the_trailer() -> None:
    one, other = (header(), b"J1"), (header(names="alice\nc2"), b"J2")
    with pytest.raises(BundleError, match="altered: its trailer"):
        read(stream_of(one)[:-44] + stream_of(one, other)[-44:])


def test_names_that_are_none_reject_their_record_alone(fed: Federation) -> None:
    heads = [header(names="alice\n-c"), header(names="\nc2"), header(lineages=[1], names="alice\nb \nc3"), header()]
    fed = import_(fed, read_bundle(io.BytesIO(stream_of(*((head, b"J1") for head in heads)))), everyone)
    assert (fed.report.admitted, dict(fed.report.rejected), list(fed)) == (1, {"malformed": 3}, ["c1"])


def test_a_payload_that_was_changed_rejects_its_record_alone(fed: Federation) -> None:
    stream = written([Record("c1", "one", "alice"), Record("c2", "two", "alice")]).replace(b'"one"', b'"uno"')
    fed = import_(fed, read_bundle(io.BytesIO(stream)), everyone)
    assert (dict(fed.report.rejected), list(fed)) == ({"corrupt": 1}, ["c2"])


def test_a_recipe_that_was_changed_rejects_its_record_alone(fed: Federation) -> None:
    cid = hashlib.sha256(b"recipe").hexdigest()
    stream = written([Record(cid, 1, "alice", recipe=b"recipe"), Record("c2", 2, "alice")])
    fed = import_(fed, read_bundle(io.BytesIO(stream.replace(b"recipe", b"recipy"))), everyone)
    assert (dict(fed.report.rejected), list(fed)) == ({"recipe": 1}, ["c2"])


def test_nothing_is_kept_of_a_bundle_that_breaks_at_its_end(fed: Federation) -> None:
    stream = written(some(3000))
    for broken in (stream[:-1], stream[:-1] + bytes([stream[-1] ^ 1]), stream + b"x"):
        with pytest.raises(BundleError):
            import_(fed, read_bundle(io.BytesIO(broken)), everyone)
        assert len(fed) == 0


# --- every bit, every byte ------------------------------------------------------------------


KEYS = {"alice": b"key of alice", "bob": b"key of bob"}


def sign(key: bytes) -> Callable[[bytes], bytes]:
    return lambda statement: hmac.digest(key, statement, "sha256")


def verify(peer: str, statement: bytes, signature: bytes) -> bool:
    return peer in KEYS and hmac.compare_digest(hmac.digest(KEYS[peer], statement, "sha256"), signature)


def signed_records() -> list[Record]:
    recipe = b"what was computed"
    made = [
        Record("c1", {"frame": 1, "mean": 0.5}, "alice"),
        Record("c2", [1, "two", None], "alice", {"bob", "carol"}),
        Record(hashlib.sha256(recipe).hexdigest(), (1, b"raw bytes"), "bob", {"carol"}, recipe),
    ]
    return [record.signed(sign(KEYS[record.peer])) for record in made]


def test_no_bit_flip_and_no_truncation_of_a_signed_bundle_lets_anything_wrong_in() -> None:
    stream, originals = written(signed_records()), {record.cid: record for record in signed_records()}
    counts = Counter[str]()

    def judge(altered: bytes, what: str) -> None:
        fed = Federation()
        try:
            fed = import_(fed, read_bundle(io.BytesIO(altered)), {"alice", "bob"}.__contains__, verify=verify)
        except BundleError:
            counts[f"{what}: refused as a whole"] += 1
        else:
            counts[f"{what}: {len(originals) - len(fed)} of {len(originals)} refused"] += 1
        for cid, stored in ((cid, fed.cache.stored(cid)) for cid in fed):  # type: ignore[attr-defined]  # every cache inside has it
            original = originals[cid]
            assert (stored.origin.peer, stored.origin.lineage) == (original.peer, original.lineage)
            assert (stored.digest, stored.value) == (original.digest, original.result)
            assert stored.recipe in (b"", original.recipe)

    judge(stream, "unaltered")
    for bit in range(8 * len(stream)):
        flipped = bytearray(stream)
        flipped[bit // 8] ^= 1 << bit % 8
        judge(bytes(flipped), "a bit flipped")
    for length in range(len(stream)):
        judge(stream[:length], "cut off")
    for what, count in sorted(counts.items()):
        print(f"{count:6} {what}")
    bodies = sum(len(record.payload) + len(record.recipe) for record in signed_records())
    assert counts == {
        "unaltered: 0 of 3 refused": 1,
        "a bit flipped: 1 of 3 refused": 8 * bodies,  # in a payload or a recipe
        "a bit flipped: refused as a whole": 8 * (len(stream) - bodies),
        "cut off: refused as a whole": len(stream),
    }


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_bytes_changed_at_random_end_as_a_bundle_error_or_as_the_same_headers(data: st.DataObject) -> None:
    records = some(20)
    stream = bytearray(written(records))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(stream) - 1))
        stream[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=6))
    try:
        got = read(bytes(stream))
    except BundleError:
        return
    assert [(r.cid, r.digest, r.peer, r.lineage, r.signature) for r in got] == [
        (r.cid, r.digest, r.peer, r.lineage, r.signature) for r in records
    ]


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_any_bytes_as_a_header_behind_a_true_trailer_are_read_or_a_bundle_error(head: bytes) -> None:
    with contextlib.suppress(BundleError):
        read(stream_of((head or b"\1", b"")))
