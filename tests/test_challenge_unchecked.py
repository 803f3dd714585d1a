"""Whether peers are right: what a challenge cannot check or compares in another way, and how much it takes.

Rules: over each kind of instance. Alice and the others compute with `add`, or with runners that are wrong about some
`n`; whoever imports challenges.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import artdag_fed
from artdag_fed import (
    DiskCache,
    Event,
    Federation,
    MemoryCache,
    Record,
    audit,
    challenge,
    forget,
    import_,
    node,
    run,
    standing,
)
from artdag_fed.cache import Changes, Entry, Made, Origin
from artdag_fed.instance import cache_of
from tests.challenges import LOCAL, add, anyone, by_why, digest, num, origins, taking, wrong
from tests.instances import Make

# --- unchecked ----------------------------------------------------------------------------------


def test_what_has_no_recipe_is_unchecked_and_stays(make: Make) -> None:
    a, above = num(1), num(2, num(1))
    records = [Record("c1", 5, "alice"), Record(a.cid, 1, "alice"), Record(above.cid, 3, "alice", recipe=above.recipe)]
    found = challenge(import_(make(), records, anyone), add)
    assert (found.confirmed, by_why(found)) == ((above.cid,), {"c1": "no recipe", a.cid: "no recipe"})
    after = origins(found.federation)
    assert after == {"c1": Origin("alice"), a.cid: Origin("alice"), above.cid: Origin(None, frozenset({"alice"}))}


def test_an_id_of_another_system_is_unchecked_whatever_recipe_is_beside_it(make: Make) -> None:
    fed = make()
    cache: Any = fed.cache
    payload, value = (b"J1", None) if cache.encodes else (None, 1)
    entry = Entry("c1", Origin("alice"), digest(1), payload, value, not cache.encodes, num(1).recipe)
    cache.commit(Changes(put=cache.stage([entry])))
    assert by_why(challenge(fed, add)) == {"c1": "no recipe"}


def test_what_lacks_an_input_is_unchecked(make: Make) -> None:
    top = num(2, num(1))
    fed = forget(taking(make(), "alice", top), [num(1).cid])
    found = challenge(fed, add)
    assert dict(found.unchecked) == {top.cid: f"an input is missing: {num(1).cid}"} and top.cid in fed


def test_what_the_runner_fails_on_is_unchecked_and_the_rest_is_checked(make: Make) -> None:
    def runner(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> Any:
        if params["n"] == 1:
            raise ZeroDivisionError("by\nzero")
        return add(op, inputs, params)

    fed = taking(make(), "alice", num(2, num(1)), num(3))
    found = challenge(fed, runner)
    assert dict(found.unchecked) == {num(1).cid: "the runner failed: ZeroDivisionError: by\\nzero"}
    assert set(found.confirmed) == {num(2, num(1)).cid, num(3).cid}
    assert origins(fed)[num(2, num(1)).cid] == Origin(None, frozenset({"alice"}))


def test_what_rests_on_a_refuted_result_and_cannot_be_checked_goes(make: Make) -> None:
    def runner(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> Any:
        return add(op, inputs, params) if params["n"] == 1 else 1 / 0

    found = challenge(taking(make(), "alice", num(2, num(1)), by=wrong(1)), runner)
    assert list(found.unchecked) == list(found.dropped) == [num(2, num(1)).cid]


def test_what_the_codec_cannot_carry_is_unchecked(make: Make) -> None:
    found = challenge(taking(make(), "alice", num(1)), lambda op, inputs, params: object())
    assert by_why(found) == {num(1).cid: "what was computed cannot be encoded"}


@pytest.mark.parametrize("answer", [True, False])
def test_in_memory_a_result_without_bytes_is_unchecked_unless_someone_compares_it(answer: bool) -> None:
    thing, other = object(), object()
    fed = import_(Federation(), [Record(num(1).cid, thing, "alice", recipe=num(1).recipe)], anyone)
    assert by_why(challenge(fed, add)) == {num(1).cid: "the held result cannot be encoded"}
    found = challenge(fed, lambda *_: other, same={"add@1": lambda held, computed: answer})
    assert (len(found.confirmed), len(found.refuted)) == ((1, 0) if answer else (0, 1))
    assert fed.cache[num(1).cid] is (thing if answer else other) and origins(fed) == {num(1).cid: LOCAL}


def test_what_was_confirmed_by_a_comparator_stays_beside_what_was_refuted() -> None:
    """Without bytes there is no digest that would say that it was made from what stands."""
    a, b, x = num(1), num(2, num(1), num(3)), num(3)
    values = {a: object(), b: object(), x: object()}
    records = [Record(n.cid, value, "alice", recipe=b"" if n == x else n.recipe) for n, value in values.items()]
    fed = import_(Federation(), records, anyone)
    found = challenge(fed, lambda *_: object(), same={"add@1": lambda held, computed: held is values[b]})
    assert ([r.cid for r in found.refuted], found.confirmed, found.dropped) == ([a.cid], (b.cid,), ())
    assert origins(fed)[b.cid] == Origin(None, frozenset({"alice"}))


def test_damaged_bytes_are_unchecked_and_so_is_what_is_above_them(durable: Federation) -> None:
    a, b, c = num(1), num(2, num(1)), num(3)
    fed = taking(durable, "alice", b, c)
    assert isinstance(fed.cache, DiskCache)
    db = sqlite3.connect(os.path.join(fed.cache.path, "index.sqlite3"))
    db.execute("UPDATE result SET payload = x'4A39' WHERE cid = ?", (a.cid,))
    db.commit()
    db.close()
    found = challenge(fed, add, same={"add@1": lambda held, computed: False})  # for which what is held is read
    assert (by_why(found), found.confirmed) == (
        {a.cid: "its bytes are damaged", b.cid: "an input is damaged"},
        (c.cid,),
    )


def test_a_result_that_is_right_is_confirmed_unread_and_found_damaged_when_it_is_read(durable: Federation) -> None:
    a, b = num(1), num(2, num(1))
    fed = taking(durable, "alice", b)
    assert isinstance(fed.cache, DiskCache)
    db = sqlite3.connect(os.path.join(fed.cache.path, "index.sqlite3"))
    db.execute("UPDATE result SET payload = x'4A39' WHERE cid = ?", (a.cid,))
    db.commit()
    db.close()
    found = challenge(fed, add)
    assert (set(found.confirmed), dict(found.unchecked)) == ({a.cid, b.cid}, {})
    events: list[Event] = []
    done = run(found.federation, a, add, observe=events.append)
    assert (done.value, done.computed) == (1, (a.cid,)) and events[0].kind == "damaged"


def test_an_unchecked_result_is_read_where_another_needs_it(make: Make) -> None:
    def runner(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> Any:
        if params["n"] == 1:
            raise ValueError("no")
        return add(op, inputs, params)

    a, b = num(1), num(2, num(1))
    found = challenge(taking(make(), "alice", b), runner)
    assert (found.confirmed, list(found.unchecked)) == ((b.cid,), [a.cid])
    assert origins(found.federation)[b.cid] == Origin(None, frozenset({"alice"}))


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_what_is_no_exception_goes_through_and_nothing_is_written(make: Make, stop: type[BaseException]) -> None:
    def runner(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> Any:
        if params["n"] == 3:
            raise stop
        return add(op, inputs, params)

    fed = taking(make(), "alice", num(3, num(2, num(1))), by=wrong(1))
    before = origins(fed)
    with pytest.raises(stop):
        challenge(fed, runner)
    assert origins(fed) == before and fed.cache[num(1).cid] == 101


# --- same ---------------------------------------------------------------------------------------


def test_a_comparator_confirms_what_is_right_without_being_equal_and_the_held_bits_stay(make: Make) -> None:
    a = num(1)
    fed = run(taking(make(), "alice", a, by=wrong(1, by=1)), num(2, a), add).federation
    told = []

    def close(held: int, computed: int) -> bool:
        told.append((held, computed))
        return abs(held - computed) < 2

    found = challenge(fed, add, same={"add@1": close})
    assert (told, found.confirmed, found.vindicated) == ([(2, 1)], (a.cid,), (num(2, a).cid,))
    assert fed.cache[a.cid] == 2 and set(origins(fed).values()) == {LOCAL}


def test_a_comparator_is_asked_for_its_op_alone_and_refutes_where_it_says_no(make: Make) -> None:
    fed = taking(make(), "alice", num(1), node("other@1", n=1), by=wrong(1))
    asked = []

    def never(held: int, computed: int) -> bool:
        asked.append((held, computed))
        return False

    found = challenge(fed, add, same={"other@1": never})
    assert asked == [(101, 1)] and len(found.refuted) == 2


@pytest.mark.parametrize("answer", [1, None, "yes", float("nan")])
def test_a_comparator_that_answers_neither_true_nor_false_is_a_type_error_and_nothing_is_written(
    make: Make, answer: object
) -> None:
    fed = taking(make(), "alice", num(1), num(2, num(1)), by=wrong(2))
    before = origins(fed)
    with pytest.raises(TypeError, match=r"same\['add@1'\] must answer True or False"):
        challenge(fed, add, same={"add@1": lambda held, computed: answer})  # type: ignore[dict-item,return-value]
    assert origins(fed) == before


# --- how much it takes --------------------------------------------------------------------------


def test_a_chain_of_thousands_is_challenged_without_recursion() -> None:
    chain = num(0)
    for n in range(1, 5000):
        chain = num(n, chain)
    fed = run(taking(artdag_fed.open(), "alice", *[num(0)], by=wrong(0)), chain, add).federation
    found = challenge(fed, add)
    assert len(found.refuted) == 1 and len(found.dropped) == 4999
    fed = taking(fed, "alice", chain)
    assert len(challenge(fed, add).confirmed) == 4999


@pytest.mark.parametrize("shape", ["chain", "leaves"])
def test_values_that_nobody_needs_any_more_are_let_go_of(
    durable: Federation, monkeypatch: pytest.MonkeyPatch, shape: str
) -> None:
    def blocks(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> Any:
        return bytes([params["n"]]) * 1_000_000

    nodes = [num(0)]
    for n in range(1, 40):
        nodes.append(num(n, *nodes[-1:] if shape == "chain" else ()))
    fed = taking(durable, "alice", *nodes, by=blocks)
    monkeypatch.setattr(standing, "READ_BYTES", 2_000_000)
    monkeypatch.setattr(audit, "READ_BYTES", 2_000_000)
    tracemalloc.start()
    found = challenge(fed, blocks)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found.confirmed) == 40 and peak < 12_000_000


def test_no_more_recipes_than_fit_are_kept_while_all_are_looked_through(
    durable: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    hers, bobs = [num(n) for n in range(5)], num(9)
    fed = taking(taking(durable, "alice", *hers), "bob", bobs)
    monkeypatch.setattr(audit, "READ_BYTES", 5 * len(hers[0].recipe) // 2)
    chosen, known = list[str](), dict[str, Made]()
    recipes = dict(audit._noting(cache_of(fed), "alice", chosen, known))
    assert len(recipes) == 6 and set(chosen) == {n.cid for n in hers} and len(known) == 2
    assert known.keys() < set(chosen)
    assert len(challenge(fed, add).confirmed) == 6


def test_a_size_and_a_signature_that_damage_made_something_else_are_told_as_none(tmp_path: Path) -> None:
    fed = taking(artdag_fed.open(tmp_path / "c"), "alice", num(1), num(2))
    with contextlib.closing(sqlite3.connect(tmp_path / "c" / "index.sqlite3")) as db, db:
        db.execute("UPDATE result SET size = 'abc', signature = 5 WHERE cid = ?", (num(1).cid,))
    made = cache_of(fed).made([num(1).cid])[num(1).cid]
    assert (made.size, made.signature) == (0, b"")


def test_what_stands_rests_on_the_origin_that_it_was_looked_at_under() -> None:
    stands = standing.Standing(MemoryCache(), frozenset(), {})
    stands.made["c1"] = Made(Origin("alice"), "d1", b"", "", token=0)  # a number like any other
    stands.keep("c1", stands.base_of(()))
    assert stands.base_of(("c1",)).tokens == {0}
