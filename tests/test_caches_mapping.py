"""A cache over a mapping: whose it is, what else may change it, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from artdag_fed import Codec, InvalidName, MemoryCache
from artdag_fed.cache import Changes, Entry, Origin, Total
from tests.shelf import Shelf

# --- a cache over a mapping --------------------------------------------------------------------


def test_a_mapping_that_raises_while_it_is_written_has_what_was_written_taken_out_again() -> None:
    shelf = Shelf(mine=1)
    cache = MemoryCache(shelf)
    entries = [Entry(f"c{i}", Origin("alice"), "", None, i, True) for i in range(5)]
    entries.append(Entry("mine", Origin(None), "", None, 2, True, replace=True))
    for fails_at in range(1, 7):
        shelf.fails_at = fails_at
        with pytest.raises(OSError, match="no room"):
            cache.commit(Changes(withdraw=lambda origin: False, put=cache.stage(entries)))
        assert dict(shelf) == {"mine": 1} and list(cache) == ["mine"] and cache.provenance == {}


def test_what_is_in_a_mapping_was_computed_here_unless_its_provenance_says_otherwise() -> None:
    cache = MemoryCache({"a": 1, "b": 2}, provenance={"b": "bob", "c": "carol"}, lineage={"a": frozenset({"bob"})})
    assert cache.origins() == {Origin(None, frozenset({"bob"})): Total(1, 0, 0.0), Origin("bob"): Total(1, 0, 0.0)}
    assert cache.provenance == {"b": "bob"} and cache.lineage == {"a": {"bob"}}


def test_what_a_mapping_lets_go_of_by_itself_is_not_held() -> None:
    bounded = {"a": 1, "b": 2}
    cache = MemoryCache(bounded)
    del bounded["a"]
    assert list(cache) == ["b"] and "a" not in cache and cache.held(["a", "b"]).keys() == {"b"} and len(cache) == 1
    assert cache.load(["a"]) == {} and cache.stored("a") is None
    with pytest.raises(KeyError):
        cache["a"]


def test_what_is_put_into_the_mapping_behind_the_cache_is_not_held() -> None:
    mapping: dict[str, Any] = {}
    cache = MemoryCache(mapping)
    mapping["a"] = 1
    assert "a" not in cache and len(cache) == 0


@pytest.mark.parametrize("mapping", [[], {1, 2}, "text", 5, object()])
def test_what_is_no_mapping_that_can_be_written_is_refused(mapping: Any) -> None:
    with pytest.raises(TypeError, match="a cache is a mapping that can be written"):
        MemoryCache(mapping)


def test_a_mapping_with_keys_that_are_no_cids_or_peers_that_are_none_is_refused() -> None:
    with pytest.raises(InvalidName, match="no cid"):
        MemoryCache({"not a cid": 1})
    with pytest.raises(TypeError, match="a cid is a str"):
        MemoryCache({5: 1})  # type: ignore[dict-item]  # wrong on purpose
    for bad in ({"provenance": {"a": " bob"}}, {"lineage": {"a": frozenset({"bob\n"})}}):
        with pytest.raises(InvalidName, match="no peer name"):
            MemoryCache({"a": 1}, **bad)  # type: ignore[arg-type]  # wrong on purpose


def test_caches_in_memory_are_equal_by_what_they_hold() -> None:
    assert MemoryCache({"a": 1}) == MemoryCache({"a": 1}) != MemoryCache({"a": 2})
    assert MemoryCache({"a": 1}) != {"a": 1} and repr(MemoryCache({"a": 1})) == "<MemoryCache of 1 results>"


def test_a_codec_of_ones_own_tells_results_apart() -> None:
    class Point:
        def __init__(self, x: int) -> None:
            self.x = x

    codec = Codec().with_type("point", Point, lambda p: p.x, Point)
    cache = MemoryCache({}, codec)
    entry = Entry("a", Origin("alice"), "", None, Point(1), True)
    cache.commit(Changes(put=cache.stage([entry])))
    again = cache.commit(Changes(put=cache.stage([entry._replace(value=Point(1), origin=Origin("bob"))])))
    assert again.unchanged == 1 and again.clashes == ()
    plain = MemoryCache({})
    plain.commit(Changes(put=plain.stage([entry])))
    again = plain.commit(Changes(put=plain.stage([entry._replace(value=Point(1), origin=Origin("bob"))])))
    assert again.unchanged == 0 and len(again.clashes) == 1, "without bytes, identity decides"
