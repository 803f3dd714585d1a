"""Bundles: what goes in comes out, in bounded memory, and a stream that was changed in any way counts for nothing.

`vectors/bundle.json` describes the bundles beside it, `bundle-*.bin`, so that another language can be tested with them.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import io
import json
import os
import struct
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import artdag_fed
from artdag_fed import (
    BundleError,
    Codec,
    CodecError,
    Federation,
    InvalidName,
    Limits,
    Record,
    TransportError,
    export,
    import_,
    read_bundle,
    write_bundle,
)
from artdag_fed.bundle import MAGIC, READ_BYTES, bundle_chunks
from artdag_fed.bundle_header import BLOCK_BYTES, BLOCK_RECORDS

VECTORS = Path(__file__).parent / "vectors"
DESCRIBED = json.loads((VECTORS / "bundle.json").read_text("ascii"))

everyone = {"alice", "bob", "carol"}.__contains__


def written(records: Iterable[Record]) -> bytes:
    stream = io.BytesIO()
    write_bundle(stream, records)
    return stream.getvalue()


def read(stream: bytes, **limits: int) -> list[Record]:
    return list(read_bundle(io.BytesIO(stream), Limits(**limits)))


def some(count: int) -> list[Record]:
    """Records of several origins, with and without recipes and signatures."""
    return [
        Record(
            f"c{i}",
            {"i": i},
            "alice" if i % 3 else "bob",
            frozenset({"carol", "dave"} if i % 2 else ()),
            b"recipe %d" % i if i % 5 == 0 else b"",
            b"s" * (i % 4),
        )
        for i in range(count)
    ]


# A writer of our own, of any bytes that one likes, by the words of docs/wire-format.md alone.


def header(
    *,
    n: int | None = None,
    m: int | None = None,
    lineages: Iterable[int] = (0,),
    places: Iterable[int] = (0,),
    sizes: Iterable[int] = (2,),
    recipes: Iterable[int] = (0,),
    signed: Iterable[int] = (0,),
    digests: bytes | None = None,
    signatures: bytes = b"",
    names: str | bytes = "alice\nc1",
) -> bytes:
    lineages, places, sizes, recipes, signed = map(list, (lineages, places, sizes, recipes, signed))
    numbers = struct.pack(">II", len(places) if n is None else n, len(lineages) if m is None else m)
    for form, column in zip("IIQII", (lineages, places, sizes, recipes, signed), strict=True):
        numbers += struct.pack(f">{len(column)}{form}", *column)
    if digests is None:
        digests = hashlib.sha256(b"J1").digest() * len(places)
    return numbers + digests + signatures + (names.encode() if isinstance(names, str) else names)


def stream_of(*blocks: tuple[bytes, bytes], count: int | None = None) -> bytes:
    """A bundle of (header, bodies) with a true trailer."""
    checked = hashlib.sha256(MAGIC)
    out, records = MAGIC, 0
    for head, bodies in blocks:
        prefixed = struct.pack(">I", len(head)) + head
        checked.update(prefixed)
        out += prefixed + bodies
        records += int.from_bytes(head[:4], "big")
    end = bytes(4) + struct.pack(">Q", records if count is None else count)
    checked.update(end)
    return out + end + checked.digest()


class Trickle(io.RawIOBase):
    """A file that gives, and takes, a few bytes at a time."""

    def __init__(self, data: bytes = b"", most: int = 7) -> None:
        self.data, self.most, self.got = data, most, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = min(len(buffer), self.most)
        given, self.data = self.data[:size], self.data[size:]
        buffer[: len(given)] = given
        return len(given)

    def write(self, data: Any) -> int:
        taken = bytes(data[: self.most])
        self.got += taken
        return len(taken)


class Gives:
    """Something with a `read` that answers what one likes."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def read(self, size: int) -> Any:
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


# --- what goes in comes out -----------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2, BLOCK_RECORDS, BLOCK_RECORDS + 1, 5000])
def test_what_is_written_is_read(count: int) -> None:
    records = some(count)
    stream = io.BytesIO()
    assert write_bundle(stream, iter(records)) == count
    assert read(stream.getvalue()) == records


names = st.text(st.characters(exclude_categories=("Cc", "Cf", "Cs", "Zl", "Zp", "Zs")), min_size=1, max_size=20)
cids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,20}", fullmatch=True)


@given(
    st.lists(
        st.builds(
            Record,
            cids,
            st.one_of(st.none(), st.integers(), st.text(), st.binary(), st.lists(st.floats(allow_nan=False))),
            names,
            st.frozensets(names, max_size=4),
            st.binary(max_size=30),
            st.binary(max_size=30),
        ),
        max_size=20,
    )
)
@settings(max_examples=200, deadline=None)
def test_any_records_come_out_as_they_went_in(records: list[Record]) -> None:
    stream = written(records)
    again = read(stream)
    assert again == records
    assert written(again) == stream, "one spelling"


def test_a_large_record_has_a_block_of_its_own_and_many_small_ones_share_one() -> None:
    large = Record("large", os.urandom(BLOCK_BYTES), "alice", recipe=b"recipe")
    records = [*some(3), large, *some(3)]
    stream = written(records)
    sizes, at = [], len(MAGIC)
    while length := int.from_bytes(stream[at : at + 4], "big"):
        head = stream[at + 4 : at + 4 + length]
        sizes.append(int.from_bytes(head[:4], "big"))
        n, m = struct.unpack_from(">II", head)
        numbers = struct.unpack_from(f">{m}I{n}I{n}Q{n}I", head, 8)
        at += 4 + length + sum(numbers[m + n :])
    assert sizes == [3, 1, 3]
    assert read(stream) == records


def test_the_chunks_of_a_bundle_are_what_is_written_and_none_is_empty() -> None:
    for records in ([], some(5), [*some(BLOCK_RECORDS + 3), Record("large", bytes(BLOCK_BYTES), "alice")]):
        chunks = list(bundle_chunks(iter(records)))
        assert b"".join(chunks) == written(records) and all(chunks)


def test_short_reads_and_short_writes_make_no_difference() -> None:
    records = [*some(40), Record("large", os.urandom(300_000), "alice")]
    sink = Trickle(most=1000)
    write_bundle(sink, records)
    assert sink.got == written(records)
    assert list(read_bundle(Trickle(sink.got))) == records
    assert list(read_bundle(io.BufferedReader(Trickle(sink.got, 5000)))) == records


def test_a_sink_that_says_nothing_took_everything() -> None:
    class Sink:
        got = b""

        def write(self, data: bytes) -> None:
            self.got += data

    sink = Sink()
    write_bundle(sink, some(10))
    assert sink.got == written(some(10))


def test_payloads_pass_undecoded_with_the_digest_that_was_declared() -> None:
    record = Record.encoded("c1", b"?no value", "ab" * 32, "alice")
    [again] = read(written([record]))
    assert (again.payload, again.digest, again.declared) == (b"?no value", "ab" * 32, True)


def test_results_are_decoded_with_the_codec_that_is_given() -> None:
    codec = Codec().with_type("complex list", range, lambda r: [r.start, r.stop], lambda x: range(*x))
    stream = written([Record("c1", range(2, 7), "alice", codec=codec)])
    assert [r.result for r in read_bundle(io.BytesIO(stream), codec=codec)] == [range(2, 7)]
    with pytest.raises(CodecError, match="complex list"):
        _ = read(stream)[0].result


def test_an_export_goes_through_a_file_into_a_cache(fed: Federation, tmp_path: Path) -> None:
    alice = Federation({f"c{i}": [i, "x" * i] for i in range(500)})
    path = tmp_path / "bundle"
    with path.open("wb") as file:
        assert write_bundle(file, export(alice, "alice")) == 500
    with path.open("rb") as file:
        bob = import_(fed, read_bundle(file), everyone)
    assert (bob.report.admitted, bob.provenance["c3"], bob.cache["c3"]) == (500, "alice", [3, "xxx"])


def test_records_come_before_the_rest_of_the_stream_was_read() -> None:
    records = some(5000)
    raw = io.BytesIO(written(records))
    assert next(read_bundle(raw)) == records[0]
    assert raw.tell() < len(raw.getvalue()) / 2


def test_equal_origins_are_one_object_in_all_blocks() -> None:
    records = read(written(some(5000)))
    assert len({(r.peer, id(r.lineage)) for r in records}) == 4


# --- what cannot be written -----------------------------------------------------------------


def test_what_has_no_bytes_is_refused_before_anything_of_its_block_is_written() -> None:
    sink = io.BytesIO()
    with pytest.raises(CodecError, match="object"):
        write_bundle(sink, [*some(3), Record("c", object(), "alice")])
    assert sink.getvalue() == MAGIC
    with pytest.raises(BundleError, match="cut off"):
        read(sink.getvalue())


wrong: Any = Record  # is called with types that it does not take


@pytest.mark.parametrize(
    ("record", "error"),
    [
        (Record("no cid", 1, "alice"), InvalidName),
        (Record("", 1, "alice"), InvalidName),
        (Record("a" * 129, 1, "alice"), InvalidName),
        (Record("-a", 1, "alice"), InvalidName),
        (Record("c\ud800", 1, "alice"), InvalidName),
        (Record("c1\nc2", 1, "alice"), InvalidName),
        (wrong(7, 1, "alice"), TypeError),
        (Record("c", 1, "al\nice"), InvalidName),
        (Record("c", 1, ""), InvalidName),
        (wrong("c", 1, None), TypeError),
        (Record("c", 1, "alice", {"bob\n"}), InvalidName),
        (wrong("c", 1, "alice", {1}), TypeError),
        (wrong("c", 1, "alice", recipe="text"), TypeError),
        (wrong("c", 1, "alice", signature=bytearray(3)), TypeError),
        (wrong.encoded("c", bytearray(b"J1"), "0" * 64, "alice"), TypeError),
        (Record.encoded("c", b"J1", "0" * 63, "alice"), BundleError),
        (Record.encoded("c", b"J1", "A" * 64, "alice"), BundleError),
        (Record.encoded("c", b"J1", "0" * 63 + " ", "alice"), BundleError),
        (Record.encoded("c", b"J1", "g" * 64, "alice"), BundleError),
        (wrong.encoded("c", b"J1", 7, "alice"), BundleError),
        (Record.encoded("c", None, "0" * 64, "alice"), CodecError),
        ("c", TypeError),
    ],
)
def test_a_record_that_nobody_would_take_is_not_sent(record: Any, error: type[Exception]) -> None:
    sink = io.BytesIO()
    with pytest.raises(error):
        write_bundle(sink, [Record("d", 1, "alice"), record])
    assert sink.getvalue() == MAGIC


def test_digests_that_only_fit_together_are_refused() -> None:
    halves = [Record.encoded(f"c{n}", b"J1", "0" * n, "alice") for n in (32, 96)]
    with pytest.raises(BundleError, match="SHA-256"):
        written(halves)


@pytest.mark.parametrize("cid", ["a", "a" * 128, "Zz-9._:", "f" * 64])
def test_every_cid_can_be_sent(cid: str) -> None:
    assert [r.cid for r in read(written([Record(cid, 1, "alice")]))] == [cid]


def test_what_reading_the_records_raises_goes_through() -> None:
    def records() -> Iterator[Record]:
        yield Record("c", 1, "alice")
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        written(records())


@pytest.mark.parametrize(("answer", "error"), [("x", TypeError), (-1, TypeError), (10**9, TypeError)])
def test_a_sink_that_counts_wrongly_is_refused(answer: Any, error: type[Exception]) -> None:
    class Sink:
        def write(self, data: bytes) -> Any:
            return answer

    with pytest.raises(error, match="says that it took"):
        write_bundle(Sink(), some(1))


def test_a_raw_sink_that_would_block_is_refused() -> None:
    class Full(io.RawIOBase):
        def write(self, data: Any) -> None:
            return None

    with pytest.raises(BlockingIOError, match="blocking"):
        write_bundle(Full(), some(1))


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


# --- limits ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"records": 29}, "Limits.records"),
        ({"bytes": 200}, "Limits.bytes"),
        ({"header_bytes": 100}, "Limits.header_bytes"),
        ({"origins": 3}, "Limits.origins"),
    ],
)
def test_a_bundle_over_a_limit_on_the_whole_is_refused(limits: dict[str, int], message: str) -> None:
    got = []
    with pytest.raises(BundleError, match=message):
        got.extend(read_bundle(io.BytesIO(written(some(30))), Limits(**limits)))
    assert got == []


def test_a_bundle_that_just_keeps_its_limits_is_read() -> None:
    records = some(30)
    size = sum(len(r.payload) + len(r.recipe) for r in records)
    most = max(len(r.payload) for r in records)
    assert (
        read(written(records), records=30, bytes=size, origins=4, record_bytes=most, recipe_bytes=9, lineage=2)
        == records
    )


def test_a_limit_on_the_whole_counts_over_all_blocks() -> None:
    stream = written(some(BLOCK_RECORDS + 30))
    with pytest.raises(BundleError, match=r"Limits\.records"):
        read(stream, records=BLOCK_RECORDS + 29)
    one, other = header(names="alice\nc1"), header(names="bob\nc1")
    with pytest.raises(BundleError, match=r"Limits\.origins"):
        read(stream_of((one, b"J1"), (other, b"J1")), origins=1)


deep = Record("over", [[[[1]]]], "alice")
deep_tagged = Record("over", ([[(1,)]], b"[" * 9), "alice")


@pytest.mark.parametrize(
    ("over", "limits"),
    [
        pytest.param(Record("over", "x" * 100, "alice"), {"record_bytes": 50}, id="a payload"),
        pytest.param(
            Record("over", b"x" * (READ_BYTES + 100), "alice"), {"record_bytes": READ_BYTES}, id="a large one"
        ),
        pytest.param(Record("over", 1, "alice", recipe=b"x" * 100), {"recipe_bytes": 50}, id="a recipe"),
        pytest.param(Record("over", 1, "alice", {"a", "b", "c"}), {"lineage": 2}, id="a lineage"),
        pytest.param(deep, {"nesting": 3}, id="brackets"),
        pytest.param(deep_tagged, {"nesting": 3}, id="brackets of a tagged payload"),
    ],
)
def test_a_record_over_a_limit_of_its_own_is_malformed_and_the_rest_goes_on(
    fed: Federation, over: Record, limits: dict[str, int]
) -> None:
    around = [Record("c1", "[[[[[[", "alice", {"a", "b"}), Record("c2", b"[[[[[[", "alice")]
    stream = written([around[0], over, around[1]])
    got = read(stream, **limits)
    assert got[::2] == around
    with pytest.raises(CodecError, match="left out"):
        _ = got[1].payload
    fed = import_(fed, read_bundle(io.BytesIO(stream), Limits(**limits)), everyone)
    assert (dict(fed.report.rejected), sorted(fed)) == ({"malformed": 1}, ["c1", "c2"])


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(MAGIC + struct.pack(">I", 1 << 20), id="a header"),
        pytest.param(stream_of((header(sizes=[1 << 30]), b"J1")), id="a payload"),
        pytest.param(stream_of((header(sizes=[1 << 35]), b"J1")), id="a payload over the limit"),
        pytest.param(stream_of((header(recipes=[1 << 18]), b"J1")), id="a recipe"),
        pytest.param(stream_of((header(n=2**32 - 1, m=2**32 - 1), b"J1")), id="a count"),
        pytest.param(stream_of((header(lineages=[2**32 - 1]), b"J1")), id="a lineage"),
        pytest.param(stream_of((header(names="\n" * 900_000), b"J1")), id="names"),
    ],
)
def test_a_size_that_lies_takes_no_memory(stream: bytes) -> None:
    raw = io.BufferedReader(Trickle(stream, len(stream)))  # sets aside what it is asked for
    tracemalloc.start()
    try:
        with pytest.raises(BundleError):
            list(read_bundle(raw))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


def test_a_large_payload_is_asked_for_in_steps_of_what_has_come() -> None:
    asked = []

    class Noting(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            asked.append(size)
            return super().read(size)

    stream = written([Record("c", bytes(9 * READ_BYTES - 1), "alice")])
    assert len(list(read_bundle(Noting(stream)))) == 1
    large = [size for size in asked if size and size >= READ_BYTES]
    assert large == [READ_BYTES, READ_BYTES, 2 * READ_BYTES, 4 * READ_BYTES, READ_BYTES]


def test_a_lineage_over_the_limit_is_not_kept() -> None:
    [record] = read(written([Record("c", 1, "alice", {"a", "b", "c"})]), lineage=2)
    assert (record.peer, record.lineage) == ("alice", frozenset())


def test_an_endless_stream_ends_at_a_limit() -> None:
    head = header()
    block = struct.pack(">I", len(head)) + head + b"J1"

    class Endless:
        data = MAGIC

        def read(self, size: int) -> bytes:
            while len(self.data) < size:
                self.data += block * 100
            given, self.data = self.data[:size], self.data[size:]
            return given

    with pytest.raises(BundleError, match=r"Limits\.records"):
        for _ in read_bundle(Endless(), Limits(records=10_000)):
            pass


# --- files that are none --------------------------------------------------------------------


@pytest.mark.parametrize("fp", [None, b"bytes", "text", 7, [b"chunks"]])
def test_what_cannot_be_read_is_refused_by_the_call(fp: Any) -> None:
    with pytest.raises(TypeError, match="binary file"):
        read_bundle(fp)


@pytest.mark.parametrize(("limits", "codec"), [({"records": 1}, None), (None, None), (Limits(), "json")])
def test_wrong_settings_are_refused_by_the_call(limits: Any, codec: Any) -> None:
    with pytest.raises(TypeError, match="must be a"):
        read_bundle(io.BytesIO(), limits, codec=codec)


@pytest.mark.parametrize(
    ("answer", "message"),
    [("text", "open it as a binary file"), (None, "gave NoneType.*blocks"), (bytearray(1), "bytes")],
)
def test_a_file_that_gives_no_bytes_is_a_type_error(answer: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        list(read_bundle(Gives(answer)))


def test_a_file_that_gives_more_than_it_was_asked_for_is_refused() -> None:
    with pytest.raises(BundleError, match="gave 100 bytes"):
        list(read_bundle(Gives(bytes(100))))


def test_a_line_that_breaks_is_no_broken_bundle(fed: Federation) -> None:
    stream = written(some(3))
    with pytest.raises(ConnectionResetError):
        list(read_bundle(Gives(stream[:1], ConnectionResetError("gone"))))
    with pytest.raises(TransportError, match="gone"):
        import_(fed, read_bundle(Gives(stream[:1], ConnectionResetError("gone"))), everyone)


# --- memory ---------------------------------------------------------------------------------


def test_writing_and_reading_hold_one_block_and_copy_a_large_payload_once() -> None:
    size = 8 << 20

    class Sink:
        def write(self, data: bytes) -> int:
            return len(data)

    payload = os.urandom(size)
    digest = hashlib.sha256(payload).hexdigest()
    stream = written(Record.encoded(f"c{i}", payload, digest, "alice") for i in range(4))

    def peak(work: Callable[[], object]) -> int:
        tracemalloc.start()
        try:
            work()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    def reading() -> None:
        for _ in read_bundle(raw):
            pass

    raw = io.BytesIO(stream)
    assert (
        peak(lambda: write_bundle(Sink(), (Record.encoded(f"c{i}", payload, digest, "a") for i in range(20))))
        < size // 4
    )
    # The one before is still in the loop's hand while the parts of the next are joined.
    assert peak(reading) < 3.25 * size


# --- vectors --------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", DESCRIBED["bundles"], ids=lambda vector: vector["file"])
def test_the_bundles_beside_the_tests_are_read_and_written_as_described(vector: dict[str, Any]) -> None:
    stream = (VECTORS / vector["file"]).read_bytes()
    assert hashlib.sha256(stream).hexdigest() == vector["sha256"]
    records = read(stream)
    assert len(records) == vector["count"]
    assert written(records) == stream
    if "records" not in vector:
        assert records == [Record(f"c{i}", i, "alice") for i in range(vector["count"])]
        return
    assert [
        {
            "cid": r.cid,
            "peer": r.peer,
            "lineage": sorted(r.lineage),
            "payload": r.payload.hex(),
            "digest": r.digest,
            "recipe": r.recipe.hex(),
            "signature": r.signature.hex(),
            "statement": r.statement.hex(),
        }
        for r in records
    ] == vector["records"]


@pytest.mark.parametrize("vector", DESCRIBED["refused"], ids=lambda vector: vector["description"])
def test_the_streams_that_are_described_as_refused_are(vector: dict[str, Any]) -> None:
    with pytest.raises(BundleError):
        read(bytes.fromhex(vector["stream"]))


@pytest.mark.parametrize("vector", DESCRIBED["bundles"], ids=lambda vector: vector["file"])
def test_signatures_of_the_vectors_are_hmacs_of_the_statements(vector: dict[str, Any]) -> None:
    keys = {peer: bytes.fromhex(key) for peer, key in DESCRIBED["hmac_sha256_keys"].items()}
    for record in read((VECTORS / vector["file"]).read_bytes()):
        if record.signature:
            assert record.signature == hmac.digest(keys[record.peer], record.statement, "sha256")


def test_a_durable_cache_takes_the_vectors(tmp_path: Path) -> None:
    fed = artdag_fed.open(tmp_path / "cache")
    for vector in DESCRIBED["bundles"]:
        with (VECTORS / vector["file"]).open("rb") as file:
            fed = import_(fed, read_bundle(file), lambda peer: True)
        assert dict(fed.report.rejected) == {}
    fed.cache.close()  # type: ignore[attr-defined]  # every cache inside a Federation has it
