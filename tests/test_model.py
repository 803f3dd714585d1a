"""Instances hold what the model of them holds, whatever happens to them; in full by `python -m tests.model`.

Rules: here a few thousand steps, and each fault once; `.ci/run` does more.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.model.__main__ import main
from tests.model.driver import drive
from tests.model.durable import MANY_KILLS, DiskWorld
from tests.model.faults import FAULTS, ON_DISK

HERE = Path(__file__).parent


def test_the_model_is_short_enough_to_be_read():
    assert len((HERE / "model" / "reference.py").read_text().splitlines()) <= 150


def test_instances_in_memory_hold_what_the_model_holds():
    counts, differs, _ = drive(1, 1500)
    assert not differs and counts["steps"] == 1500


def test_durable_instances_hold_what_the_model_holds_through_kills_and_other_processes():
    counts, differs, _ = drive(1, 150, lambda seed: DiskWorld(seed, kills=0.1))
    assert not differs
    assert counts["kills"] >= 5 and counts["second"] >= 5


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_the_library_is_found(name):
    with FAULTS[name]():
        _, differs, _ = drive(1, 10_000)
    assert "once more: " in differs


@pytest.mark.parametrize("name", ON_DISK)
def test_a_fault_of_a_durable_cache_is_found(name):
    with ON_DISK[name]():
        _, differs, _ = drive(1, 2000, lambda seed: DiskWorld(seed, kills=MANY_KILLS), length=250)
    assert "once more: " in differs


def test_what_a_failure_prints_replays_it(capsys):
    with FAULTS["lineage not unioned"]():
        assert main(["--steps", "5000", "--seed", "3"]) == 1
        said = capsys.readouterr().out
        assert main(re.search(r"once more: (.+)", said)[1].split()) == 1
        again = capsys.readouterr().out
    assert said.partition(", ")[2] == again.partition(", ")[2]  # all but the number of the step, counted from the start


def test_the_same_seed_does_the_same_under_every_hash_seed():
    said = [
        subprocess.run(
            [sys.executable, "-m", "tests.model", "--steps", "600", "--seed", "7", "--digest"],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": f"{HERE.parent / 'src'}"},
            cwd=HERE.parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()[-1]
        for hash_seed in ("1", "2")
    ]
    assert said[0] == said[1] and re.fullmatch("[0-9a-f]{64}", said[0])
