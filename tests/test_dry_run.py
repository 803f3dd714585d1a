"""What `invalidate` and `forget` would do: told, and not done.

Rules: over a dict, `open()` and `open(path)`; what a dry run says is compared with what the real one then does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from artdag_fed import (
    Codec,
    Dag,
    Event,
    Federation,
    InvalidName,
    Record,
    Report,
    forget,
    import_,
    invalidate,
    node,
    run,
)
from artdag_fed.events import Total
from artdag_fed.instance import cache_of
from tests.instances import Again, everyone

SIZE = len(Codec().encode("x" * 100))
LOW = node("low@1")
TOP = node("top@1", LOW)
OTHER = node("other@1")
SLEEP = 0.002


def slow(op: str, inputs: tuple[Any, ...], params: Any) -> str:
    time.sleep(SLEEP)  # so that there are seconds to be told of; how many does not matter
    return "x" * 100


@pytest.fixture
def world(fed: Federation) -> Federation:
    """LOW from alice, TOP and OTHER computed here, b1 from bob resting on alice, a2 from alice."""
    theirs = [
        Record(LOW.cid, "x" * 100, "alice", recipe=LOW.recipe),
        Record("a2", "x" * 100, "alice", {"carol"}),
        Record("b1", "x" * 100, "bob", {"alice"}),
    ]
    fed = import_(fed, theirs, everyone)
    fed = run(fed, Dag(TOP, OTHER), slow).federation
    cache_of(fed).made(fed)  # in memory this is what works sizes out
    return fed


def state(fed: Federation) -> Any:
    cache = cache_of(fed)
    held = {cid: (fed.cache[cid], cache.held([cid])[cid]) for cid in fed}
    return held, dict(fed.provenance), dict(fed.lineage), list(cache.offers()), list(cache.inventory())


def counted(report: Report) -> dict[str | None, tuple[int, int]]:
    return {peer: (total.results, total.bytes) for peer, total in report.dropping.items()}


def silent(event: Event) -> None:
    raise AssertionError(f"a dry run told of {event}")


Verb = Callable[..., Federation]
VERBS: dict[str, tuple[Verb, dict[str | None, int]]] = {
    "invalidate": (lambda fed, **more: invalidate(fed, "alice", **more), {"alice": 2}),
    "invalidate, derived": (
        lambda fed, **more: invalidate(fed, "alice", derived=True, **more),
        {"alice": 2, "bob": 1, None: 1},
    ),
    "invalidate nobody": (lambda fed, **more: invalidate(fed, "nobody", derived=True, **more), {}),
    "forget": (
        lambda fed, **more: forget(fed, iter([LOW.cid, OTHER.cid, "never-held"]), **more),
        {"alice": 1, None: 1},
    ),
    "forget, derived": (lambda fed, **more: forget(fed, [LOW.cid], derived=True, **more), {"alice": 1, None: 1}),
    "forget nothing": (lambda fed, **more: forget(fed, [], derived=True, **more), {}),
}


@pytest.mark.parametrize("how", VERBS)
def test_a_dry_run_changes_and_tells_nothing_and_reports_what_the_real_run_then_does(
    world: Federation, again: Again, how: str
) -> None:
    verb, expected = VERBS[how]
    before = state(world)
    dry = verb(world, dry_run=True, observe=silent)
    assert state(dry) == state(world) == state(again(world)) == before
    assert dry.report.dropped == 0
    assert counted(dry.report) == {peer: (number, number * SIZE) for peer, number in expected.items()}
    real = verb(world)
    assert (real.report.dropped, real.report.dropping) == (sum(expected.values()), {})
    assert real.report.resting_on == dry.report.resting_on
    assert len(real) == len(before[0]) - sum(expected.values())


@pytest.mark.parametrize("how", ["invalidate, derived", "forget, derived"])
def test_it_says_what_computing_took_where_that_is_known(world: Federation, how: str) -> None:
    dropping = VERBS[how][0](world, dry_run=True).report.dropping
    took = cache_of(world).made([TOP.cid])[TOP.cid].seconds
    assert dropping[None].seconds == pytest.approx(took) and took >= SLEEP / 2
    assert dropping["alice"].seconds == 0


def test_what_would_stay_and_rest_on_the_peer_is_counted_as_in_the_real_run(world: Federation) -> None:
    assert invalidate(world, "alice", dry_run=True).report.resting_on == {"alice": 2}
    assert invalidate(world, "alice", derived=True, dry_run=True).report.resting_on == {}


def test_a_dry_run_of_invalidate_looks_at_no_result(world: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: object, cids: Iterable[str] = ()) -> Any:
        raise AssertionError("results were looked at")

    for name in ("held", "load", "made", "stored", "recipes", "inventory", "commit", "purge"):
        monkeypatch.setattr(type(world.cache), name, refused)
    report = invalidate(world, "alice", derived=True, dry_run=True).report
    assert sum(total.results for total in report.dropping.values()) == 4


def test_in_memory_what_was_never_encoded_has_no_bytes_for_invalidate_and_is_encoded_for_forget() -> None:
    fed = import_(Federation({}), [Record("a1", "x" * 100, "alice")], everyone)
    fed.cache["c1"] = "x" * 100
    assert forget(fed, ["c1"], dry_run=True).report.dropping == {None: (1, SIZE, 0.0)}
    assert forget(fed, ["a1"], dry_run=True).report.dropping == {"alice": (1, SIZE, 0.0)}
    fed.cache["c2"] = object()
    assert forget(fed, ["c2"], dry_run=True).report.dropping == {None: (1, 0, 0.0)}


def test_more_results_than_are_looked_at_at_once_are_all_counted(fed: Federation) -> None:
    many = [Record(f"a{n}", n, "alice") for n in range(2500)]
    fed = import_(fed, many, everyone)
    assert forget(fed, [record.cid for record in many], dry_run=True).report.dropping["alice"].results == 2500


def test_a_dry_run_refuses_what_the_real_one_does() -> None:
    for wrong in (lambda: invalidate(Federation(), "", dry_run=True), lambda: forget(Federation(), [""], dry_run=True)):
        with pytest.raises(InvalidName):
            wrong()


def test_the_notebook_shows_what_would_go_and_whose_it_is() -> None:
    many: dict[str | None, Total] = {f"peer{n}": Total(1, 0, 0.0) for n in range(20)}
    shown = Report(dropping={None: Total(1200, 1_500_000, 2.5), "<al>": Total(2000, 0, 0.0)} | many)._repr_html_()
    for part in (
        "1,200",
        "1.5 MB, computed in 2.5 s",
        "would go: computed here",
        "from '&lt;al&gt;'",
        "2,000",
    ):
        assert part in shown, part
    assert "12 more peers whose results would go" in shown and "<al>" not in shown
    pruned = Report(dropped=2, dropping={"bob": Total(2, 10, 0.0)}, holding=Total(3, 999, 0.0))._repr_html_()
    assert "went: from" in pruned and "left" in pruned and "999 B" in pruned
    assert "such as" in Report(rejected={"untrusted": 1}, examples={"untrusted": ("c1",)})._repr_html_()


def test_a_report_keeps_its_own_copy_of_what_goes() -> None:
    given: dict[str | None, Total] = {None: Total(1, 2, 3.0)}
    report = Report(dropping=given)
    given.clear()
    assert report.dropping == {None: (1, 2, 3.0)}
    assert repr(report) == "Report(dropping={None: Total(results=1, bytes=2, seconds=3.0)})"
