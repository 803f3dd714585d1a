"""The story of the two studios, each a process of its own, with nothing between them but a folder on a shared drive.

Rules: the pictures are those of docs/two_studios.py; whatever one studio knows of the other, it knows from the folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
KEY = "studio A and studio B share this"

# What each studio does is told in the words of a user, and run by an interpreter of its own.
BEGIN = f"""
import json, sys
from pathlib import Path
from artdag_fed import FederationError, invalidate, plan, pull, run, open as open_instance
from artdag_fed.signing import hmac_signer, hmac_verifier
from artdag_fed.transport import wanted
from artdag_fed.transports.folder import fetcher, publish
from two_studios import leader, png, runner, strip
here, drive, KEY = Path(sys.argv[1]), Path(sys.argv[2]), {KEY!r}.encode()
fed, said = open_instance(here), {{}}
"""
END = "\nprint(json.dumps(said))"

A_PUBLISHES = """
done = run(fed, strip("warm"), runner)
said["computed"], said["picture"] = len(done.computed), png(done.value).hex()
said["published"] = publish(done.federation, "studio-a", drive, sign=hmac_signer(KEY))
said["again"] = publish(done.federation, "studio-a", drive, sign=hmac_signer(KEY))
"""
B_RENDERS = """
own = run(fed, leader(), runner)
said["own"] = len(own.computed)
fetch = fetcher({"studio-a": drive})
fed = pull(own.federation, fetch, "studio-a", {"studio-a"}.__contains__, verify=hmac_verifier({"studio-a": KEY}))
said["admitted"], said["rejected"] = fed.report.admitted, sum(fed.report.rejected.values())
done = run(fed, strip("warm"), runner)
said["computed"], said["picture"] = len(done.computed), png(done.value).hex()
changed = run(fed, strip("moonlight"), runner)
said["changed"] = len(changed.computed)
"""
A_ADDS = """
done = run(fed, strip("moonlight"), runner)
said["computed"], said["published"] = len(done.computed), publish(fed, "studio-a", drive, sign=hmac_signer(KEY))
"""
B_FETCHES_WHAT_IS_NEW = """
fetch = fetcher({"studio-a": drive}, known=fed)
fed = pull(fed, fetch, "studio-a", {"studio-a"}.__contains__, verify=hmac_verifier({"studio-a": KEY}))
said["admitted"], said["unchanged"], said["conflicts"] = fed.report.admitted, fed.report.unchanged, fed.report.conflicts
"""
B_WITHDRAWS_TRUST = """
held = len(fed)
fed = invalidate(fed, "studio-a", derived=True)
said["dropped"], said["left"] = fed.report.dropped, len(fed)
said["resting"] = len(fed.provenance) + len(fed.lineage)
done = run(fed, strip("warm"), runner)
said["computed"], said["picture"] = len(done.computed), png(done.value).hex()
"""
C_WANTS_ONE_PICTURE = """
fetch = fetcher({"studio-a": drive})
offered = fetch.digests("studio-a", [n.cid for n in plan_nodes(strip("warm"))])
needs = plan(fed, strip("warm"), offered=offered).wanted
fed = pull(fed, wanted(fetch, needs), "studio-a", {"studio-a"}.__contains__, verify=hmac_verifier({"studio-a": KEY}))
said["wanted"], said["admitted"] = len(needs), fed.report.admitted
done = run(fed, strip("warm"), runner)
said["computed"], said["picture"] = len(done.computed), png(done.value).hex()
"""
WITH_NODES = "from artdag_fed import Dag\nplan_nodes = Dag\n"
MALLORY_CHANGES_A_PICTURE = """
from artdag_fed import Federation, export, import_
stolen = import_(fed, list(fetcher({"studio-a": drive})("studio-a")), lambda peer: True)
for cid in list(stolen):
    if isinstance(stolen.cache[cid], dict):
        fed.cache[cid] = stolen.cache[cid] | {"pixels": bytes(len(stolen.cache[cid]["pixels"]))}
import shutil
shutil.rmtree(drive)
said["published"] = publish(fed, "studio-a", drive, sign=hmac_signer(b"a key that Mallory made up"))
"""


def tell(studio: Path, drive: Path, story: str) -> dict[str, Any]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "docs")])}
    command = [sys.executable, "-c", BEGIN + story + END, str(studio), str(drive)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_two_studios_share_their_work_over_a_folder(tmp_path: Path) -> None:
    a, b, drive = tmp_path / "a", tmp_path / "b", tmp_path / "drive"
    first = tell(a, drive, A_PUBLISHES)
    picture = first.pop("picture")
    assert first == {"computed": 34, "published": 34, "again": 0}

    rendered = tell(b, drive, B_RENDERS)
    assert rendered.pop("picture") == picture
    assert rendered == {"own": 4, "admitted": 34, "rejected": 0, "computed": 0, "changed": 9}

    assert tell(a, drive, A_ADDS) == {"computed": 9, "published": 9}
    assert tell(b, drive, B_FETCHES_WHAT_IS_NEW) == {"admitted": 0, "unchanged": 0, "conflicts": 0}  # B has made them

    withdrawn = tell(b, drive, B_WITHDRAWS_TRUST)
    assert withdrawn.pop("picture") == picture
    assert withdrawn == {"dropped": 43, "left": 4, "resting": 0, "computed": 34}


def test_a_third_studio_fetches_just_what_its_run_needs(tmp_path: Path) -> None:
    a, c, drive = tmp_path / "a", tmp_path / "c", tmp_path / "drive"
    picture = tell(a, drive, A_PUBLISHES)["picture"]
    told = tell(c, drive, WITH_NODES + C_WANTS_ONE_PICTURE)
    assert told.pop("picture") == picture
    assert told == {"wanted": 1, "admitted": 1, "computed": 0}


@pytest.mark.parametrize("verified", [True, False])
def test_whoever_can_write_to_the_drive_cannot_speak_for_the_studio_where_it_is_verified(
    tmp_path: Path, verified: bool
) -> None:
    a, b, mallory, drive = (tmp_path / name for name in ("a", "b", "mallory", "drive"))
    picture = tell(a, drive, A_PUBLISHES)["picture"]
    assert tell(mallory, drive, MALLORY_CHANGES_A_PICTURE)["published"] > 30
    story = B_RENDERS if verified else B_RENDERS.replace(', verify=hmac_verifier({"studio-a": KEY})', "")
    told = tell(b, drive, story)
    assert (told["admitted"] == 0, told["rejected"] > 30, told["picture"] == picture) == (verified,) * 3
