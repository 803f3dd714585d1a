"""An instance as a value and as a container: what changes and what does not, what is equal, what it shows.

Rules: each behaviour over a dict, `open()` and `open(path)` where it is one of all three.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

import artdag_fed
from artdag_fed import (
    DiskCache,
    Federation,
    MemoryCache,
    Record,
    Report,
    export,
    forget,
    import_,
    invalidate,
    node,
    plan,
    pull,
    run,
)
from tests.instances import Again, Make, everyone
from tests.sums import add, sums

# --- values: what changes and what does not -------------------------------------------------------


def verbs() -> list[Any]:
    """Every verb as a function of an instance, so that each can be given any older value."""
    top = add(add(n=1), n=2)
    several: dict[str, Callable[[Federation], Any]] = {
        "export": lambda fed: list(export(fed, "me")),
        "import_": lambda fed: import_(fed, [Record("other", 1, "bob")], everyone),
        "import_ of the same cid": lambda fed: import_(fed, [Record("c1", 1, "bob")], everyone),
        "pull": lambda fed: pull(fed, lambda peer: [Record("other", 1, peer)], "bob", everyone),
        "invalidate another": lambda fed: invalidate(fed, "nobody-here"),
        "run": lambda fed: run(fed, top, sums),
        "plan": lambda fed: plan(fed, top),
        "forget": lambda fed: forget(fed, ["nothing"], derived=True),
        "replace": lambda fed: dataclasses.replace(fed, report=Report()),
        "copy": copy.copy,
        "put": lambda fed: fed.cache.__setitem__("put", 1),
    }
    return [pytest.param(verb, id=name) for name, verb in several.items()]


@pytest.mark.parametrize("verb", verbs())
def test_no_verb_given_an_older_value_makes_a_foreign_result_look_local(
    fed: Federation, again: Again, verb: Callable[[Federation], Any]
) -> None:
    low = add(n=1)
    foreign = [Record("c1", "theirs", "alice"), Record(low.cid, 1, "alice")]
    older = [fed, import_(fed, [Record("c0", 0, "carol")], everyone)]
    older.append(invalidate(older[-1], "carol"))
    newest = import_(fed, foreign, everyone)
    for value in older:
        verb(value)
        current = import_(value, [], everyone)  # what any verb returns: what the cache keeps now
        assert (current.provenance["c1"], current.provenance[low.cid]) == ("alice", "alice")
        [record] = export(value, "me", ["c1"])
        assert record.lineage == {"alice"}
        assert newest.provenance["c1"] == "alice"
    last = older[0]
    if isinstance(last.cache, DiskCache):
        assert again(last).provenance["c1"] == "alice"
    gone = invalidate(last, "alice", derived=True)
    assert "c1" not in gone and low.cid not in gone and add(low, n=2).cid not in gone


def test_a_value_in_memory_never_changes() -> None:
    fed = Federation({})
    low = add(n=1)
    values = [fed]
    values.append(import_(values[-1], [Record(low.cid, 1, "alice", {"carol"}), Record("c2", 2, "bob")], everyone))
    values.append(run(values[-1], add(low), sums).federation)
    snapshots = [(dict(v.provenance), dict(v.lineage), v.report) for v in values]
    values.append(invalidate(values[-1], "alice", derived=True))
    values.append(forget(values[-1], ["c2"]))
    fed.cache["c3"] = 3
    import_(fed, [Record("c4", 4, "dave", {"erin"})], everyone)
    assert [(dict(v.provenance), dict(v.lineage), v.report) for v in values[:3]] == snapshots
    assert snapshots[1] == (
        {low.cid: "alice", "c2": "bob"},
        {low.cid: frozenset({"carol"})},
        Report(2, resting_on={"carol": 1}),
    )


def test_a_durable_value_shows_what_is_kept_now(durable: Federation) -> None:
    import_(durable, [Record("c1", 1, "alice", {"carol"})], everyone)
    assert (dict(durable.provenance), dict(durable.lineage)) == ({"c1": "alice"}, {"c1": frozenset({"carol"})})
    invalidate(durable, "alice")
    assert (len(durable.provenance), "c1" in durable.lineage) == (0, False)


def test_wrapping_a_used_mapping_anew_needs_its_origins_again() -> None:
    results: dict[str, Any] = {}
    fed = import_(Federation(results), [Record("c1", 1, "alice", {"carol"})], everyone)
    anew = Federation(results, fed.provenance, fed.lineage)
    assert (anew.provenance, anew.lineage) == ({"c1": "alice"}, {"c1": frozenset({"carol"})})
    assert len(invalidate(anew, "carol", derived=True)) == 0


def test_only_origins_of_results_that_are_there_are_taken_over() -> None:
    fed = Federation({"c1": 1}, provenance={"gone": "alice"}, lineage={"gone": frozenset({"bob"})})
    assert (dict(fed.provenance), dict(fed.lineage)) == ({}, {})


def contradictions() -> list[Any]:
    return [
        pytest.param({"provenance": {"c1": "alice"}}, id="the cache says local"),
        pytest.param({"provenance": {"c2": "bob"}}, id="the cache says another peer"),
        pytest.param({"lineage": {"c1": frozenset({"alice"})}}, id="the cache says that it rests on nobody"),
    ]


@pytest.mark.parametrize("given", contradictions())
def test_origins_that_contradict_what_the_cache_keeps_are_a_value_error(given: dict[str, Any]) -> None:
    fed = import_(Federation({"c1": 1}), [Record("c2", 2, "alice")], everyone)
    with pytest.raises(ValueError, match="but the cache keeps"):
        Federation(fed.cache, **given)
    with pytest.raises(ValueError, match="but the cache keeps"):
        dataclasses.replace(fed, **given)


def test_origins_given_with_a_durable_cache_are_a_value_error(durable: Federation, tmp_path: Any) -> None:
    other = artdag_fed.open(tmp_path / "other")
    import_(other, [Record("c1", 1, "alice", {"bob"})], everyone)
    for given in ({"provenance": {"c1": "alice"}}, {"lineage": {"c1": frozenset({"bob"})}}, {"lineage": other.lineage}):
        with pytest.raises(ValueError, match="keeps provenance and lineage itself"):
            Federation(durable.cache, **given)  # type: ignore[arg-type]  # a union of dicts
    assert Federation(other.cache, other.provenance, other.lineage) == other
    other.cache.close()  # type: ignore[attr-defined]  # every cache inside a Federation has it


def test_the_lineage_of_a_wrapped_mapping_is_looked_at() -> None:
    with pytest.raises(TypeError, match="is a set of peers, not the text 'carol'"):
        Federation({"c1": 1}, lineage={"c1": "carol"})  # type: ignore[dict-item]  # on purpose
    with pytest.raises(ValueError, match="names its own peer"):
        Federation({"c1": 1}, {"c1": "alice"}, {"c1": frozenset({"alice"})})
    with pytest.raises(ValueError, match="no peer name"):
        Federation({"c1": 1}, {"c1": " alice"})


# --- an instance as a container -------------------------------------------------------------------


def test_an_instance_is_a_container_of_cids(fed: Federation) -> None:
    fed.cache["c1"] = 1
    fed.cache["c2"] = 2
    assert ("c1" in fed, "c9" in fed, 7 in fed, None in fed) == (True, False, False, False)
    assert (len(fed), list(fed)) == (2, ["c1", "c2"])


def test_an_instance_is_asked_by_a_node_as_by_its_cid(fed: Federation, runner: Any) -> None:
    held, missing = node("add@1", n=1), node("add@1", n=2)
    after = run(fed, held, runner).federation
    assert held in after and held.cid in after and missing not in after


def test_a_closed_instance_has_a_repr(durable: Federation) -> None:
    durable.cache.close()  # type: ignore[attr-defined]  # of a DiskCache
    assert "was closed: open it again" in repr(durable)
    assert "was closed: open it again" in durable._repr_html_()


def test_a_run_is_asked_by_node_and_not_iterated(fed: Federation, runner: Any) -> None:
    with pytest.raises(TypeError, match="not iterable"):
        list(run(fed, node("add@1", n=1), runner))  # type: ignore[call-overload]


def test_an_instance_is_true_even_when_it_is_empty(fed: Federation) -> None:
    assert fed and not len(fed)


def test_the_repr_of_an_instance_counts_and_names_its_peers(make: Make) -> None:
    fed = make()
    fed.cache["mine"] = 1
    bundle = [Record(f"{peer}{n}", n, peer) for k, peer in enumerate("abcde") for n in range(k + 1)]
    text = repr(import_(fed, bundle, everyone))
    assert text.startswith("<Federation over <") and text.endswith(
        ": 1 computed here, 5 from 'e', 4 from 'd', 3 from 'c', and 2 more peers>"
    )
    assert repr(make()).endswith(": 0 computed here>")


def test_instances_are_equal_by_what_they_hold_and_whence() -> None:
    one = import_(Federation({"c1": 1}), [Record("c2", 2, "alice")], everyone)
    two = Federation({"c1": 1, "c2": 2}, {"c2": "alice"})
    assert one == two and one != Federation({"c1": 1, "c2": 2}) and one != Federation({"c1": 1})
    assert (one == 1) is False


def test_two_values_over_one_durable_cache_are_equal(durable: Federation) -> None:
    older = durable
    newer = import_(durable, [Record("c1", 1, "alice")], everyone)
    reopened = artdag_fed.open(durable.cache.path)  # type: ignore[attr-defined]  # of a DiskCache
    assert older == newer == reopened
    assert older != Federation({})
    reopened.cache.close()  # type: ignore[attr-defined]  # as above


def test_an_instance_is_frozen_and_has_no_hash(fed: Federation) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        fed.report = Report()  # type: ignore[misc]  # on purpose
    with pytest.raises(TypeError, match="unhashable"):
        hash(fed)


def test_the_report_is_no_part_of_equality() -> None:
    fed = Federation({"c1": 1})
    assert dataclasses.replace(fed, report=Report(admitted=9)) == fed


def test_one_own_codec_goes_to_open(tmp_path: Any) -> None:
    class Point:
        def __init__(self, x: int) -> None:
            self.x = x

    codec = artdag_fed.Codec().with_type("point", Point, lambda p: p.x, Point)
    fed = artdag_fed.open(tmp_path / "points", codec=codec)
    fed.cache["c1"] = Point(3)
    assert fed.cache["c1"].x == 3
    assert isinstance(artdag_fed.open(codec=codec).cache, MemoryCache)
    other = artdag_fed.open(tmp_path / "others", codec=codec)
    other = import_(other, export(fed, "alice"), everyone)
    assert other.cache["c1"].x == 3
    for each in (fed, other):
        each.cache.close()  # type: ignore[attr-defined]  # as above
