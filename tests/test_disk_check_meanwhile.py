"""The check of a durable cache while others write to it: what comes and goes meanwhile is no fault."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import artdag_fed
from artdag_fed import Record, import_, invalidate
from artdag_fed.caches.disk_blobs import Area, Blobs
from artdag_fed.caches.disk_faults import row_fault
from tests import disk_checks
from tests.disk_checks import LARGE, checked, held

template, folder = disk_checks.template, disk_checks.folder


def test_an_area_whose_lock_file_was_made_just_now_is_no_fault(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = os.open(Path(folder, "blobs", "staging", "0" * 16 + ".lock"), os.O_RDWR | os.O_CREAT)
    waited: list[float] = []

    def sleep(seconds: float) -> None:  # meanwhile whoever made it has locked it
        waited.append(seconds)
        fcntl.flock(made, fcntl.LOCK_EX)

    monkeypatch.setattr("artdag_fed.caches.disk_check.time.sleep", sleep)
    try:
        assert checked(folder)[0] == [] and len(waited) == 1
    finally:
        os.close(made)
    assert [fault.kind for fault in checked(folder)[0]] == ["leftover"]


def test_an_area_that_goes_while_it_is_looked_at_was_not_abandoned(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    area = Area(Blobs(folder))
    going = [area]

    def then_gone(there: Callable[[str], bool]) -> Callable[[str], bool]:
        def look(path: str) -> bool:
            found = there(path)
            if path.removesuffix(".lock") == area.path and going:
                going.pop().close()
            return found

        return look

    for name in ("isdir", "lexists"):  # whichever is asked first
        monkeypatch.setattr(os.path, name, then_gone(getattr(os.path, name)))
    assert Blobs(folder).abandoned() == [] and not going


def test_results_that_come_and_go_meanwhile_are_no_faults(folder: str) -> None:
    over = threading.Event()

    def churn(name: str) -> None:
        fed = artdag_fed.open(folder)
        number = 0
        while not over.is_set():
            number += 1
            records = [Record(f"{name}-{number}-{i}", LARGE + bytes([i]) * number, name) for i in range(3)]
            import_(fed, records, {name}.__contains__)
            invalidate(fed, name)
        fed.cache.close()  # type: ignore[attr-defined]  # it has one

    threads = [threading.Thread(target=churn, args=(name,)) for name in ("dora", "emil")]
    for thread in threads:
        thread.start()
    try:
        told = [checked(folder, mend=bool(turn % 2))[0] for turn in range(6)]
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert told == [[]] * 6
    assert checked(folder)[0] == []


def test_a_fault_that_is_gone_at_the_second_look_is_not_told(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []

    def once(row: Any, blobs: Blobs) -> Any:
        looks.append(row.cid)
        if row.cid == "small" and looks.count("small") == 1:
            return "digest", "as if it was read while it was replaced"
        return row_fault(row, blobs)

    monkeypatch.setattr("artdag_fed.caches.disk_check.row_fault", once)
    assert checked(folder, mend=True)[0] == [] and looks.count("small") == 2
    assert "small" in held(folder)
