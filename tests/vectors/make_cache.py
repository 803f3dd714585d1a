"""Makes `cache-v1/`: a durable cache as version 1 of its format has it, kept so that later versions still open it.

Run once per version of the format, never again: `PYTHONPATH=src python tests/vectors/make_cache.py FOLDER`. What is in
it is told again by `tests/test_disk_folder.py`, from a copy.
"""

import sys

from artdag_fed import Federation, Record, import_, invalidate, node, run
from artdag_fed.caches.disk import DiskCache

LARGE = bytes(range(256)) * 130  # 33,280 bytes: a file beside the index


def main(folder: str) -> None:
    cache = DiskCache(folder)
    fed = Federation(cache)
    records = [
        Record("from-alice", {"frames": [1, 2.5, None]}, "alice"),
        Record("from-bob", LARGE, "bob", {"carol"}),
        Record("from-mallory", "lies", "mallory"),
    ]
    fed = import_(fed, records, lambda peer: True)
    first = node("load@1", path="a.png")
    run(fed, node("blur@1", first, radius=3), lambda op, inputs, params: [op, *inputs, dict(params)])
    invalidate(fed, "mallory")
    cache.close()


if __name__ == "__main__":
    main(sys.argv[1])
