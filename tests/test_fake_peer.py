"""A peer with every fault there is helps or fails by itself; and the contract of a `Fetch` finds what is broken."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from artdag_fed import BundleError, Federation, FederationError, Fetch, Limits, Record, TransportError, node, pull
from artdag_fed.signing import hmac_signer, hmac_verifier
from artdag_fed.testing import FakePeer, check_fetch
from artdag_fed.transport import first_of, limited, retrying, wanted
from artdag_fed.transports import folder, http
from artdag_fed.transports.http_wire import BUNDLE_TYPE, JSON_TYPE, digests, read_asked
from tests.http_servers import serving
from tests.instances import everyone

KEY = b"a key that alice and bob share"
OFFERS = {f"c{i}": [i, "x" * 50 * i] for i in range(5)}


def got(fetch: Fetch, peer: str = "alice", **options: Any) -> dict[str, Any]:
    fed = pull(Federation(), fetch, peer, everyone, **options)
    return {cid: fed.cache[cid] for cid in fed}


# --- each switch ----------------------------------------------------------------------------


def test_an_honest_peer_offers_all() -> None:
    peer = FakePeer("alice", OFFERS)
    assert got(peer) == OFFERS and peer.asked == ["alice"]
    assert got(FakePeer("alice", [Record("c1", 1, "alice", {"bob"})])) == {"c1": 1}
    assert got(FakePeer("alice", OFFERS, sign=hmac_signer(KEY)), verify=hmac_verifier({"alice": KEY})) == OFFERS
    assert b"".join(FakePeer("alice", OFFERS).chunks()) == FakePeer("alice", OFFERS).data()


def test_nobody_answers_for_another_name() -> None:
    with pytest.raises(TransportError, match="nobody answers for 'bob'"):
        got(FakePeer("alice", OFFERS), "bob")


@pytest.mark.parametrize(("switches", "waits"), [({"silent": True}, 60), ({"slow": 25.0}, 3), ({"drip": 0.5}, 120)])
def test_a_peer_that_is_slow_or_silent_ends_in_a_time_out(switches: dict[str, Any], waits: int) -> None:
    slept: list[float] = []
    with pytest.raises(TransportError, match="nothing came in time"):
        got(FakePeer("alice", OFFERS, sleep=slept.append, **switches))
    assert len(slept) == waits and sum(slept) < 90


def test_a_peer_that_is_only_a_little_slow_is_waited_for() -> None:
    slept: list[float] = []
    assert got(FakePeer("alice", OFFERS, slow=1.0, drip=0.001, sleep=slept.append)) == OFFERS
    assert len(slept) > 500 and 0 < sum(slept) < 60


def test_a_drip_gives_single_bytes() -> None:
    assert {len(piece) for piece in FakePeer("alice", OFFERS, drip=0.001).chunks()} == {1}


def test_an_endless_peer_goes_over_the_limit() -> None:
    with pytest.raises(BundleError, match="100 records"):
        got(FakePeer("alice", OFFERS, endless=True, limits=Limits(records=100)))
    with pytest.raises(BundleError, match="100 records"):
        got(FakePeer("alice", OFFERS, endless=True), limits=Limits(records=100))


def test_a_record_that_is_too_large_is_refused_alone_and_a_bundle_that_is_as_a_whole() -> None:
    peer = FakePeer("alice", OFFERS, oversized=5_000)
    assert len(got(peer)) == 6
    assert got(FakePeer("alice", OFFERS, oversized=5_000, limits=Limits(record_bytes=1_000))) == OFFERS
    with pytest.raises(BundleError, match="payload bytes"):
        got(FakePeer("alice", OFFERS, oversized=5_000, limits=Limits(bytes=4_000)))


@pytest.mark.parametrize("cut", [0, 1, 20, 21, 25, 100, 500, -44, -1])
def test_an_answer_that_is_cut_off_counts_for_nothing(cut: int) -> None:
    with pytest.raises(BundleError):
        got(FakePeer("alice", OFFERS, cut=cut))


@pytest.mark.slow
def test_no_bit_that_is_flipped_makes_anything_wrong_accepted() -> None:
    size = len(FakePeer("alice", OFFERS).data())
    kept = 0
    for bit in range(8 * size):
        try:
            found = got(FakePeer("alice", OFFERS, flip=bit))
        except FederationError:
            continue
        assert len(found) == 4 and found.items() <= OFFERS.items()
        kept += 1
    assert kept == 8 * sum(len(Record("c", value, "alice").payload) for value in OFFERS.values())
    assert FakePeer("alice", OFFERS, flip=-1).data()[-1] == FakePeer("alice", OFFERS).data()[-1] ^ 0x80


LIES: dict[str, tuple[str, str]] = {  # what is told, how many and why: without, and with signatures
    "names": ("mislabelled", "forged"),
    "ids": ("recipe", "forged"),
    "digests": ("corrupt", "corrupt"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_record_that_lies_is_refused(lie: Any) -> None:
    steps = [node("op@1", n=n) for n in range(5)]
    offers = [Record(step.cid, n, "alice", recipe=step.recipe) for n, step in enumerate(steps)]
    peer = FakePeer("alice", offers, sign=hmac_signer(KEY), lies_about=[lie])
    unsigned, signed = LIES[lie]
    assert pull(Federation(), peer, "alice", everyone).report.rejected == {unsigned: 5}
    verify = hmac_verifier({"alice": KEY, "mallory": b"another key than alice's"})
    assert pull(Federation(), peer, "alice", everyone, verify=verify).report.rejected == {signed: 5}
    peer.lies_about = ()
    assert pull(Federation(), peer, "alice", everyone, verify=verify).report.admitted == 5


@pytest.mark.parametrize("lie", ["sizes", "counts"])
def test_a_bundle_that_lies_is_refused(lie: Any) -> None:
    with pytest.raises(BundleError):
        got(FakePeer("alice", OFFERS, lies_about=[lie]))


def test_two_instances_see_that_a_peer_equivocates() -> None:
    peer = FakePeer("alice", OFFERS, sign=hmac_signer(KEY), equivocates=True)
    verify = hmac_verifier({"alice": KEY})
    bob = pull(Federation(), peer, "alice", everyone, verify=verify)
    again = pull(bob, peer, "alice", everyone, verify=verify)
    assert (again.report.conflicts, again.report.admitted) == (5, 0)
    assert [again.cache[cid] for cid in OFFERS] == [[1, cid] for cid in OFFERS]


@pytest.mark.parametrize("error", [OSError("the cable"), ValueError("a bug"), KeyError(1), BundleError("theirs")])
def test_a_peer_that_raises_in_the_middle_counts_for_nothing(error: Exception) -> None:
    bob = Federation({"mine": 1})
    with pytest.raises(FederationError):
        pull(bob, FakePeer("alice", OFFERS, error=error), "alice", everyone)
    assert list(bob) == ["mine"]
    with pytest.raises(KeyboardInterrupt):
        pull(bob, FakePeer("alice", OFFERS, error=KeyboardInterrupt()), "alice", everyone)
    assert list(bob) == ["mine"]


def test_every_bad_peer_fails_alone() -> None:
    """Promise 8: a peer can only help."""
    faults: list[dict[str, Any]] = [
        {"silent": True}, {"slow": 30.0}, {"drip": 1.0}, {"endless": True, "limits": Limits(records=50)}, {"cut": 70},
        {"flip": -1}, {"lies_about": ["names"]}, {"lies_about": ["digests"]}, {"lies_about": ["sizes"]},
        {"lies_about": ["counts"]}, {"error": OSError("gone")},
    ]  # fmt: skip
    fed, failed = Federation({"mine": 1}), 0
    for i, switches in enumerate([*faults, {}]):
        try:
            fed = pull(fed, FakePeer(f"peer{i}", {f"from{i}": i}, **switches), f"peer{i}", everyone)
        except FederationError:
            failed += 1
    assert sorted(fed) == [f"from{len(faults)}", "mine"] and failed == len(faults) - 2


# --- the contract, over what is there --------------------------------------------------------


def in_a_folder(path: Path) -> Callable[..., folder.FolderFetch]:
    """Puts what a peer says, byte for byte, into a folder: as a segment of that name and size."""
    numbers = itertools.count()

    def make(peer: FakePeer, **options: Any) -> folder.FolderFetch:
        place = path / f"{next(numbers)}"
        place.mkdir()
        data, records = peer.data(), peer.records()
        lines = "".join(f"{r.cid} {r.digest} {'0' * 32}\n" for r in records).encode()
        digest, index = hashlib.sha256(data).hexdigest(), hashlib.sha256(lines).hexdigest()
        (place / f"{digest}.bundle").write_bytes(data)
        (place / f"{index}.index").write_bytes(lines)
        segment = {"bundle": digest, "bytes": max(1, len(data)), "records": len(records), "index": index}
        manifest = {"artdag-fed folder": 1, "peer": peer.name, "segments": [segment]}
        (place / "artdag-fed.json").write_text(json.dumps(manifest))
        return folder.fetcher({peer.name: place}, **options)

    return make


@pytest.mark.parametrize(
    "make",
    [
        lambda peer: peer,
        lambda peer: lambda name: iter(peer(name)),
        lambda peer: lambda name: list(peer(name)),
        first_of,
        lambda peer: first_of(FakePeer("alice", {"c1": "never seen"}, cut=0), peer),
        lambda peer: retrying(peer, sleep=lambda seconds: None),
        lambda peer: limited(peer, records=3),
        lambda peer: limited(peer, bytes=10**9, seconds=60),
        lambda peer: wanted(peer, ["c1", "c2", "c5"]),
        lambda peer: wanted(retrying(first_of(peer), sleep=lambda seconds: None), ["c1", "c2"]),
    ],
    ids=["itself", "function", "list", "first_of", "fallback", "retrying", "records", "bytes", "wanted", "all"],
)
def test_the_contract_holds_in_memory(make: Callable[[FakePeer], Fetch]) -> None:
    check_fetch(make)


def test_the_contract_holds_for_a_folder(tmp_path: Path) -> None:
    make = in_a_folder(tmp_path)
    check_fetch(make)
    check_fetch(lambda peer: make(peer, known={"c0", "c3"}))
    check_fetch(lambda peer: retrying(first_of(make(peer)), sleep=lambda seconds: None))
    check_fetch(lambda peer: wanted(make(peer), ["c1", "c2"]))


class OverHttp:
    """Puts what peers say, byte for byte, behind one WSGI server, each under a path of its own."""

    def __init__(self) -> None:
        self.peers: list[FakePeer] = []
        self.url = ""

    def __call__(self, peer: FakePeer) -> Fetch:
        self.peers.append(peer)
        return http.fetcher({peer.name: f"{self.url}/{len(self.peers) - 1}"}, deadline=10)

    def application(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        _, number, _, what = environ["PATH_INFO"].split("/")
        peer = self.peers[int(number)]
        if what == "bundle":
            start_response("200 OK", [("Content-Type", BUNDLE_TYPE)])
            return peer.chunks("alice")
        asked = read_asked(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        start_response("200 OK", [("Content-Type", JSON_TYPE)])
        return [digests({record.cid: record.digest for record in peer.records() if record.cid in asked})]


def test_the_contract_holds_over_http() -> None:
    make = OverHttp()
    with serving(make.application) as server:
        make.url = server.url
        check_fetch(make)
        check_fetch(lambda peer: wanted(retrying(first_of(make(peer)), sleep=lambda seconds: None), ["c1", "c2"]))
    assert len(make.peers) > 100


# --- the contract, over what is broken -------------------------------------------------------


def with_attributes(fetch: Fetch, **attributes: Any) -> Fetch:
    def carrying(peer: str) -> Iterable[Record]:
        return fetch(peer)

    vars(carrying).update(attributes)
    return carrying


def once(peer: FakePeer) -> Fetch:
    answer = peer(peer.name)
    return lambda name: answer


def shared(peer: FakePeer) -> Fetch:
    """Keeps state between calls: a second answer takes from the first one."""
    answers: list[Iterator[Record]] = []

    def fetch(name: str) -> Iterator[Record]:
        answers.append(peer(name))
        return itertools.chain(answers[-1], *answers[:-1])

    return fetch


def dying(peer: FakePeer) -> Fetch:
    """Says nothing more to anybody once it was broken off."""
    dead: list[bool] = []

    def fetch(name: str) -> Iterator[Record]:
        try:
            yield from () if dead else peer(name)
        except GeneratorExit:
            dead.append(True)
            raise

    return fetch


def swallowing(kind: type[Exception]) -> Callable[[FakePeer], Fetch]:
    def make(peer: FakePeer) -> Fetch:
        def fetch(name: str) -> Iterator[Record]:
            try:
                yield from peer(name)
            except kind:
                return

        return fetch

    return make


def tells(peer: FakePeer, change: Callable[[dict[str, str], Iterable[str]], Any]) -> Fetch:
    digests = {record.cid: record.digest for record in peer.records()}
    return with_attributes(peer, digests=lambda name, cids: change(digests, list(cids)))


BROKEN: dict[str, tuple[Callable[[FakePeer], Any], str]] = {
    "gives nothing": (lambda peer: lambda name: [], "cids of an answer"),
    "gives one record less": (lambda peer: lambda name: list(peer(name))[1:], "cids of an answer"),
    "gives each record twice": (lambda peer: lambda name: [r for r in peer(name) for _ in "ab"], "cids of an answer"),
    "gives no records": (lambda peer: lambda name: [*peer(name), "record"], "of type str, not a Record"),
    "gives records of someone else": (
        lambda peer: lambda name: [Record(r.cid, r.result, "mallory") for r in peer(name)],
        "an unsigned record that was given for alice names 'mallory'",
    ),
    "gives other results": (
        lambda peer: lambda name: [Record(r.cid, "other", r.peer, r.lineage) for r in peer(name)],
        "a record of an answer",
    ),
    "leaves the lineage away": (
        lambda peer: lambda name: [Record(r.cid, r.result, r.peer, (), r.recipe, r.signature) for r in peer(name)],
        "a record of an answer",
    ),
    "leaves signatures away": (
        lambda peer: lambda name: [Record(r.cid, r.result, r.peer, r.lineage, r.recipe) for r in peer(name)],
        "a record of an answer",
    ),
    "answers only once": (once, "answer"),
    "keeps state between calls": (shared, "an answer while another is read"),
    "says nothing more once it was broken off": (dying, "an answer after some that were broken off"),
    "ends where the answer breaks": (swallowing(BundleError), "ended as if it were whole"),
    "answers for anybody": (lambda peer: lambda name: peer("alice"), "asked for nobody"),
    "repairs digests": (
        lambda peer: lambda name: [Record(r.cid, b"any", r.peer) if r.digest == "0" * 64 else r for r in peer(name)],
        "whose digests are wrong",
    ),
    "believes digests": (
        lambda peer: (
            lambda name: [Record(r.cid, r.result, r.peer, r.lineage, r.recipe, r.signature) for r in peer(name)]
        ),
        "bit",
    ),
    "takes its argument by name": (lambda peer: lambda *, peer_id: peer(peer_id), ""),
    "partial that is no bool": (lambda peer: with_attributes(peer, partial="no"), "`partial`"),
    "partial without any record": (lambda peer: with_attributes(lambda name: [], partial=True), "gave nothing at all"),
    "partial with another record": (
        lambda peer: with_attributes(lambda name: [Record("c1", "other", name)], partial=True),
        "a record of an answer",
    ),
    "digests of all": (lambda peer: tells(peer, lambda found, cids: found), "digests(peer, [])"),
    "digests that are made up": (
        lambda peer: tells(peer, lambda found, cids: dict.fromkeys(cids, "0" * 64)),
        "digests(peer, one that is not offered)",
    ),
    "digests of other results": (
        lambda peer: tells(peer, lambda found, cids: {cid: "0" * 64 for cid in cids if cid in found}),
        "digests(peer, cids)",
    ),
    "digests that are left out": (lambda peer: tells(peer, lambda found, cids: {}), "digests(peer, cids)"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_the_contract_finds_what_is_broken(broken: str) -> None:
    make, message = BROKEN[broken]
    with pytest.raises((AssertionError, TypeError)) as caught:
        check_fetch(make)
    assert message in str(caught.value)
