"""A pull that mirrors: by which roads it may, and what is done to the instance and to the peer meanwhile.

Rules: over a dict, `open()` and `open(path)`; the peer is a fetch, or an instance that is served over HTTP.
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
    Federation,
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
    quorum,
    retrying,
    run,
    wanted,
)
from artdag_fed.bundle import write_bundle
from artdag_fed.transport import carrying, is_partial
from artdag_fed.transports import folder, http
from tests.http_servers import Told, answering, head, serving
from tests.instances import everyone
from tests.mirroring import ALL, Fetch, holding, mirrored, offering

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
