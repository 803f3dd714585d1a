"""Golden vectors: every id is the same on each Python and hash seed, and what no writer writes is refused."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from artdag_fed import dag as module

VECTORS = Path(__file__).parent / "vectors" / "ids.json"


def typed_value(spec: dict[str, Any]) -> Any:
    """The Python value that a typed value of the file stands for. Kept whole: child processes run its source."""
    ((kind, given),) = spec.items()
    match kind:
        case "int":
            return int(given, 0)
        case "float":
            return float(given)
        case "bytes":
            return bytes.fromhex(given)
        case "list":
            return [typed_value(item) for item in given]
        case "tuple":
            return tuple([typed_value(item) for item in given])
        case "dict":
            return {key: typed_value(item) for key, item in given}
    assert kind in ("none", "bool", "str"), kind
    return given


def wrong_vectors(path: str) -> tuple[int, list[str]]:
    """How many vectors there are, and the names of those that this interpreter does not agree with. Kept whole, too."""
    import json

    from artdag_fed.dag import node, parse_recipe, recipe_inputs

    def exactly(value: Any) -> str:  # tells types and signs of zero, as == does not; not key order, as repr does
        if isinstance(value, dict):
            return "{" + ", ".join(f"{key!r}: {exactly(value[key])}" for key in sorted(value)) + "}"
        if isinstance(value, (list, tuple)):
            return type(value).__name__ + "(" + ", ".join(map(exactly, value)) + ")"
        return repr(value)

    with open(path, encoding="ascii") as file:
        stored = json.load(file)
    wrong: list[str] = []
    nodes: dict[str, Any] = {}
    for vector in stored["vectors"]:
        params = typed_value({"dict": vector["params"]})
        made = node(vector["op"], *[nodes[cid] for cid in vector["inputs"]], **params)
        nodes[made.cid] = made
        op, inputs, read = parse_recipe(made.recipe)
        right = (
            made.cid == vector["cid"]
            and made.recipe == vector["recipe"].encode()
            and (op, list(inputs)) == (vector["op"], vector["inputs"])
            and inputs == recipe_inputs(made.recipe)
            and exactly(read) == exactly(params)
        )
        if not right:
            wrong.append(vector["name"])
    for refused in stored["refused"]:
        try:
            parse_recipe(bytes.fromhex(refused["recipe_hex"]))
            wrong.append(refused["name"])
        except ValueError:
            pass
    return len(stored["vectors"]) + len(stored["refused"]), wrong


def test_golden_vectors_hold() -> None:
    count, wrong = wrong_vectors(str(VECTORS))
    assert wrong == []
    assert count >= 100


def test_golden_vectors_are_hashes_of_their_recipes_and_all_differ_but_for_key_order() -> None:
    vectors = json.loads(VECTORS.read_text("ascii"))["vectors"]
    assert all(hashlib.sha256(v["recipe"].encode()).hexdigest() == v["cid"] for v in vectors)
    (twin,) = [v["cid"] for v in vectors if v["name"] == "the same params in another order"]
    rest = [v["cid"] for v in vectors if v["name"] != "the same params in another order"]
    assert len(set(rest)) == len(rest) >= 40
    assert twin in rest


def other_pythons() -> dict[str, str]:
    found = {"this": sys.executable}
    for version in ("3.11", "3.12", "3.13"):
        built = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
        path = str(built[-1]) if built else shutil.which(f"python{version}")
        if path is not None:
            found[version] = path
    return found


def test_golden_vectors_hold_on_other_pythons_and_hash_seeds() -> None:
    source = f"from __future__ import annotations\n{inspect.getsource(typed_value)}\n{inspect.getsource(wrong_vectors)}"
    script = f"from typing import Any\nimport sys\n{source}\nprint(wrong_vectors(sys.argv[1]))".split("\n")
    script.insert(0, script.pop(2))  # the __future__ import comes first
    root = str(Path(module.__file__).parent.parent)
    children = {
        f"{name}, seed {seed}": subprocess.Popen(
            [path, "-S", "-c", "\n".join(script), str(VECTORS)],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": root},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name, path in other_pythons().items()
        for seed in ("0", "1")
    }
    expected = str((wrong_vectors(str(VECTORS))[0], []))
    answers = {name: child.communicate(timeout=60) for name, child in children.items()}  # all, before one can fail
    for name, (out, err) in answers.items():
        if children[name].returncode == 127 and "this" not in name:  # a launcher for a version that is not installed
            continue
        assert (name, out.strip(), err) == (name, expected, "")
