"""A pull that mirrors: what a peer offers no more goes, and nothing else ever does.

Rules: over a dict, `open()` and `open(path)`; the peer is a list of records, or an instance that is served over HTTP.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import artdag_fed
from artdag_fed import (
    BundleError,
    Event,
    Federation,
    Limits,
    Record,
    Report,
    TransportError,
    export,
    first_of,
    forget,
    import_,
    invalidate,
    limited,
    node,
    pull,
    quorum,
    retrying,
    run,
    wanted,
)
from artdag_fed.bundle import write_bundle
from artdag_fed.signing import hmac_signer, hmac_verifier
from artdag_fed.transport import carrying, is_partial
from artdag_fed.transports import folder, http
from tests.http_servers import Told, answering, head, serving

Make = Callable[[], Federation]
Fetch = Callable[[str], Any]

KEY = b"sixteen bytes or more"


def everyone(peer: str) -> bool:
    return True


def offering(*records: Any) -> Fetch:
    return lambda peer: list(records)


def holding(fed: Federation) -> Federation:
    """c0 computed here, a1 to a3 from alice (a3 resting on carol), b1 from bob (resting on alice)."""
    fed.cache["c0"] = 0
    theirs = [Record(f"a{n}", n, "alice", {"carol"} if n == 3 else ()) for n in (1, 2, 3)]
    return import_(fed, [*theirs, Record("b1", 1, "bob", {"alice"})], everyone)


def mirrored(fed: Federation, fetch: Fetch, **more: Any) -> Federation:
    return pull(fed, fetch, "alice", everyone, mirror=True, **more)


ALL = {"c0", "a1", "a2", "a3", "b1"}


# --- what goes ------------------------------------------------------------------------------------


def test_a_mirroring_pull_drops_what_came_from_the_peer_and_is_offered_no_more(
    fed: Federation, again: Callable[[Federation], Federation]
) -> None:
    told: list[Event] = []
    fed = mirrored(holding(fed), offering(Record("a2", 2, "alice"), Record("a4", 4, "alice")), observe=told.append)
    assert set(fed) == set(again(fed)) == {"c0", "a2", "a4", "b1"}
    assert fed.report == Report(admitted=1, unchanged=1, dropped=2)
    assert told == [Event("recalled", peer="alice", count=2), Event("committed", peer="alice", count=1)]
    assert dict(fed.provenance) == {"a2": "alice", "a4": "alice", "b1": "bob"}


def test_a_pull_that_does_not_mirror_drops_nothing(fed: Federation) -> None:
    fed = pull(holding(fed), offering(), "alice", everyone)
    assert (set(fed), fed.report) == (ALL, Report())


def test_a_peer_that_offers_nothing_any_more_takes_all_of_its_own_back(fed: Federation) -> None:
    fed = mirrored(holding(fed), offering())
    assert (set(fed), fed.report) == ({"c0", "b1"}, Report(dropped=3))


def test_a_withdrawal_goes_on_through_everyone_who_mirrors(make: Make) -> None:
    alice, bob, dave = make(), make(), make()
    alice.cache.update({"bad": 1, "good": 2})
    roads = {"alice": lambda peer: export(alice, peer), "bob": lambda peer: export(bob, peer)}
    for _ in range(2):
        bob = pull(bob, roads["alice"], "alice", everyone, mirror=True)
        dave = pull(dave, roads["bob"], "bob", everyone, mirror=True)
        alice = forget(alice, ["bad"])
    assert set(bob) == set(dave) == {"good"}


def test_what_was_built_here_on_a_recalled_result_stays_as_it_does_when_trust_is_withdrawn(fed: Federation) -> None:
    low = node("low@1")
    top = node("top@1", low)
    fed = import_(fed, [Record(low.cid, 1, "alice")], everyone)
    fed = run(fed, top, lambda op, inputs, params: sum(inputs)).federation
    fed = mirrored(fed, offering())
    assert (set(fed), dict(fed.lineage)) == ({top.cid}, {top.cid: frozenset({"alice"})})
    assert len(invalidate(fed, "alice", derived=True)) == 0


# --- what counts as offered -----------------------------------------------------------------------


def test_a_record_that_is_rejected_or_in_conflict_is_still_offered(fed: Federation) -> None:
    bad = node("op@1")
    fed = import_(holding(fed), [Record(bad.cid, 5, "alice", recipe=bad.recipe)], everyone)
    fed = pull(
        fed,
        offering(
            Record("a1", "another", "alice"),
            Record("a2", 2, "alice", {"mallory"}),
            Record.encoded("a3", b"no value", "0" * 64, "alice"),
            Record(bad.cid, 5, "alice", recipe=b"another recipe"),
        ),
        "alice",
        everyone,
        trusted_lineage=lambda peer: peer != "mallory",
        mirror=True,
    )
    assert set(fed) == {*ALL, bad.cid}
    assert (fed.report.dropped, fed.report.conflicts, sum(fed.report.rejected.values())) == (0, 1, 3)


def test_what_an_untrusted_peer_offers_is_not_kept_and_what_it_withdraws_goes_all_the_same(fed: Federation) -> None:
    fed = pull(holding(fed), offering(Record("a1", 1, "alice")), "alice", lambda peer: False, mirror=True)
    assert (set(fed), fed.report) == ({"c0", "a1", "b1"}, Report(rejected={"untrusted": 1}, dropped=2))


@pytest.mark.parametrize("verify", [None, lambda peer, statement, signature: True])
def test_a_record_that_names_another_peer_is_not_offered_by_the_one_that_was_asked(
    fed: Federation, verify: Any
) -> None:
    records = [Record(cid, 1, "bob", signature=b"s") for cid in ("a1", "a2", "a3")]
    fed = mirrored(holding(fed), offering(*records), verify=verify)
    assert not {"a1", "a2", "a3"} & {cid for cid, peer in fed.provenance.items() if peer == "alice"}
    assert fed.report.dropped == 3
    # What another peer offers under its own proven name takes the place that has become free, in the same commit.
    assert ("a1" in fed) == (verify is not None)


def test_with_verify_an_unsigned_and_a_forged_record_are_offered_and_never_stored(fed: Federation) -> None:
    sign, verify = hmac_signer(KEY), hmac_verifier({"alice": KEY})
    signed = [Record(f"a{n}", n, "alice").signed(sign) for n in range(3)]
    fed = mirrored(fed, offering(*signed), verify=verify)
    forged = Record("a1", 1, "alice", signature=b"trust me")
    fed = mirrored(fed, offering(Record("a0", "poison", "alice"), forged, Record("a9", 9, "alice")), verify=verify)
    assert ({cid: fed.cache[cid] for cid in fed}, fed.report.dropped) == ({"a0": 0, "a1": 1}, 1)


def test_with_verify_whoever_leaves_a_record_out_takes_it_back(fed: Federation) -> None:
    sign, verify = hmac_signer(KEY), hmac_verifier({"alice": KEY})
    signed = [Record(f"a{n}", n, "alice").signed(sign) for n in range(3)]
    fed = mirrored(mirrored(fed, offering(*signed), verify=verify), offering(*signed[1:]), verify=verify)
    assert set(fed) == {"a1", "a2"}


@pytest.mark.parametrize(
    "odd",
    [Record("no cid " * 9999, 1, "alice"), Record([], 1, "alice"), Record("a1", 1, [])],  # type: ignore[arg-type]
)
def test_a_record_with_a_cid_or_a_peer_that_is_none_offers_nothing_and_breaks_nothing(
    fed: Federation, odd: Record
) -> None:
    fed = mirrored(holding(fed), offering(odd, Record("a2", 2, "alice")))
    assert (set(fed), fed.report) == (
        {"c0", "a2", "b1"},
        Report(unchanged=1, rejected={"malformed": 1}, dropped=2),
    )


# --- what recalls nothing -------------------------------------------------------------------------


def breaking(error: BaseException) -> Fetch:
    def fetch(peer: str) -> Iterator[Record]:
        yield Record("a1", 1, peer)
        yield Record("a5", 5, peer)
        raise error

    return fetch


@pytest.mark.parametrize(
    "error", [BundleError("cut"), TransportError("gone"), OSError(), KeyError(), KeyboardInterrupt()]
)
def test_a_broken_answer_recalls_nothing(fed: Federation, error: BaseException) -> None:
    told: list[Event] = []
    with pytest.raises((BundleError, TransportError, KeyboardInterrupt)):
        mirrored(holding(fed), breaking(error), observe=told.append)
    assert set(fed) == ALL and told == []


def test_a_fetch_that_raises_and_a_bundle_that_is_none_recall_nothing(fed: Federation) -> None:
    def dead(peer: str) -> Any:
        raise ConnectionRefusedError

    holding(fed)
    for fetch in (dead, lambda peer: None, lambda peer: [Record("a1", 1, peer), "no record"]):
        with pytest.raises((BundleError, TransportError)):
            mirrored(fed, fetch)
    assert set(fed) == ALL


@pytest.mark.parametrize("limits", [Limits(records=1), Limits(bytes=4), Limits(origins=1)])
def test_an_answer_over_a_limit_recalls_nothing(fed: Federation, limits: Limits) -> None:
    with pytest.raises(BundleError, match="has more than"):
        mirrored(holding(fed), offering(Record("a1", 1, "alice"), Record("x", "xx", "bob")), limits=limits)
    assert set(fed) == ALL


def test_a_predicate_that_answers_neither_true_nor_false_recalls_nothing(fed: Federation) -> None:
    with pytest.raises(TypeError, match="must answer True or False"):
        pull(holding(fed), offering(Record("a9", 1, "alice")), "alice", lambda peer: 1, mirror=True)  # type: ignore[arg-type,return-value]  # on purpose
    assert set(fed) == ALL


# --- which fetch may be mirrored ------------------------------------------------------------------


def never(peer: str) -> Any:
    raise AssertionError("a peer was asked")


class Saying:
    """A fetch whose `partial` is what it is told."""

    def __init__(self, partial: Any) -> None:
        self.partial = partial

    def __call__(self, peer: str) -> Any:
        return never(peer)


class Raising:
    def __init__(self, error: Exception) -> None:
        self.error = error

    @property
    def partial(self) -> bool:
        raise self.error

    def __call__(self, peer: str) -> Any:
        return never(peer)


PARTIAL: dict[str, Callable[[], Fetch]] = {
    "wanted": lambda: wanted(never, ["a1"]),
    "wanted nothing": lambda: wanted(never, []),
    "limited": lambda: limited(never, records=10**9),
    "quorum": lambda: quorum({"alice": never}, 1),
    "http, cids": lambda: http.fetcher({"alice": "http://127.0.0.1:1"}, cids=["a1"]),
    "folder, known": lambda: folder.fetcher({"alice": "/nowhere"}, known=set()),
    "first_of": lambda: first_of(never, wanted(never, ["a1"])),
    "retrying": lambda: retrying(limited(never, seconds=1)),
    "carrying": lambda: carrying(never, partial=True, digests=None),
    "True": lambda: Saying(True),
    "None": lambda: Saying(None),
    "0": lambda: Saying(0),
    "a text": lambda: Saying("no"),
    "raises": lambda: Raising(RuntimeError("?")),
    "raises as if it had none": lambda: Raising(AttributeError("partial")),
    "first_of one that says None": lambda: first_of(Saying(None)),
    "retrying one that raises": lambda: retrying(Raising(RuntimeError("?"))),
}


@pytest.mark.parametrize("how", PARTIAL)
def test_a_fetch_that_may_leave_things_out_is_refused_before_anyone_is_asked(how: str) -> None:
    fed = holding(Federation())
    fetch = PARTIAL[how]()
    assert is_partial(fetch)
    with pytest.raises(ValueError, match="has to give everything"):
        mirrored(fed, fetch)
    assert set(fed) == ALL


def test_what_is_whole_stays_whole_inside_wrappers(tmp_path: Path) -> None:
    def fetch(peer: str) -> Any:
        return [Record("a1", 1, peer)]

    whole: list[Fetch] = [fetch, first_of(retrying(fetch), fetch), retrying(first_of(fetch)), Saying(False)]
    whole += [http.fetcher({"alice": "http://127.0.0.1:1"}), folder.fetcher({"alice": tmp_path})]
    assert [is_partial(road) for road in whole] == [False] * len(whole)
    for road in whole[:3]:
        assert set(mirrored(holding(Federation()), road)) == {"c0", "a1", "b1"}


# --- over a real road -----------------------------------------------------------------------------


def test_over_http_a_withdrawn_result_goes_and_a_cut_answer_takes_nothing_back(fed: Federation) -> None:
    alice = Federation({f"a{n}": "x" * 5000 for n in range(40)})
    with serving(http.app(lambda: alice, "alice")) as server:
        fetch = http.fetcher({"alice": server.url})
        fed = mirrored(fed, fetch)
        assert len(fed) == 40
        del alice.cache["a7"]
        fed = mirrored(fed, retrying(fetch))
        assert (set(fed), fed.report) == (set(alice), Report(unchanged=39, dropped=1))
        assert not server.errors
    stream = io.BytesIO()
    write_bundle(stream, export(Federation({"a1": "x" * 5000}), "alice"))
    whole = stream.getvalue()
    for cut in (0, 1, 50, len(whole) // 2, len(whole) - 1):
        with Told(answering(head(), whole[:cut])) as told, pytest.raises((BundleError, TransportError)):
            mirrored(fed, http.fetcher({"alice": told.url}))
        assert set(fed) == set(alice)
    with Told(answering(head(), whole)) as told:
        assert set(mirrored(fed, http.fetcher({"alice": told.url}))) == {"a1"}


def test_from_a_folder_a_withdrawn_result_goes_and_a_missing_file_takes_nothing_back(
    fed: Federation, tmp_path: Path
) -> None:
    alice = Federation({f"a{n}": "x" * 500 for n in range(9)})
    folder.publish(alice, "alice", tmp_path / "there")
    fetch = folder.fetcher({"alice": tmp_path / "there"})
    fed = mirrored(fed, fetch)
    del alice.cache["a7"]
    folder.publish(alice, "alice", tmp_path / "there")
    fed = mirrored(fed, fetch)
    assert (set(fed), fed.report.dropped) == (set(alice), 1)
    for path in sorted((tmp_path / "there").rglob("*")):
        if path.is_file():
            path.unlink()
            with pytest.raises((BundleError, TransportError)):
                mirrored(fed, fetch)
    assert set(fed) == set(alice)


# --- two at once ----------------------------------------------------------------------------------


def test_what_is_computed_here_while_the_answer_is_read_is_not_recalled(fed: Federation) -> None:
    top = node("top@1")
    fed = import_(fed, [Record(top.cid, "theirs", "alice"), Record("a2", 2, "alice")], everyone)
    read, computed = threading.Barrier(2, timeout=30), threading.Barrier(2, timeout=30)

    def fetch(peer: str) -> Iterator[Record]:
        yield Record("a9", 9, peer)
        read.wait()  # everything is read but the end
        computed.wait()

    def compute() -> None:
        read.wait()
        run(fed, top, lambda op, inputs, params: "mine", refresh=True)
        computed.wait()

    thread = threading.Thread(target=compute)
    thread.start()
    after = mirrored(fed, fetch)
    thread.join()
    assert (after.cache[top.cid], set(after), after.report.dropped) == ("mine", {top.cid, "a9"}, 1)
    assert dict(after.provenance) == {"a9": "alice"}


def test_what_comes_in_from_another_peer_while_the_answer_is_read_is_not_recalled(fed: Federation) -> None:
    def fetch(peer: str) -> Iterator[Record]:
        yield Record("a1", 1, peer)
        import_(forget(fed, ["a2"]), [Record("a2", 2, "bob")], everyone)

    after = mirrored(holding(fed), fetch)
    assert (after.provenance["a2"], set(after), after.report.dropped) == ("bob", {"c0", "a1", "a2", "b1"}, 1)


def test_what_was_withdrawn_while_the_answer_is_read_is_counted_once(fed: Federation) -> None:
    def fetch(peer: str) -> Iterator[Record]:
        yield Record("a1", 1, peer)
        assert invalidate(fed, "alice").report.dropped == 3

    after = mirrored(holding(fed), fetch)
    assert (set(after), after.report) == ({"c0", "b1", "a1"}, Report(admitted=1))


def test_a_recall_and_what_comes_in_with_it_are_one_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fed = holding(artdag_fed.open(tmp_path / "c"))
    commits: list[Any] = []
    commit = type(fed.cache).commit  # type: ignore[attr-defined]  # every cache inside a Federation has it

    def counted(self: Any, changes: Any) -> Any:
        commits.append(1)
        return commit(self, changes)

    monkeypatch.setattr(type(fed.cache), "commit", counted)
    mirrored(fed, offering(Record("a4", 4, "alice")))
    assert (set(fed), commits) == ({"c0", "a4", "b1"}, [1])
    fed.cache.close()  # type: ignore[attr-defined]  # as above
