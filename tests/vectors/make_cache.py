"""Makes a folder for `vectors/`: a durable cache as one version of its format has it, kept so that later ones open it.

Run once per version of the format, never again, and kept as it is: `PYTHONPATH=src python tests/vectors/make_cache.py
v2 && tar czf tests/vectors/cache-v2.tar.gz v2`. What is in it is told again by `tests/test_disk_versions.py`; the
folders of version 1 were made by earlier forms of this file: `cache-v1/` (see `tests/test_disk_folder_opening.py`) and
`cache-v1-used.tar.gz`.
"""

import sys

from artdag_fed import Federation, Ops, Record, import_, run
from artdag_fed.cache import Changes, Entry, Origin
from artdag_fed.caches.disk import DiskCache

LARGE = bytes(range(256)) * 130  # 33,280 bytes: a file beside the index

ops = Ops()


@ops.op
def load(*, path):
    return path


@ops.op
def blur(image, *, radius):
    return [image, radius]


def main(folder: str) -> None:
    cache = DiskCache(folder)
    fed = Federation(cache)
    lies = [Record(f"from-mallory{i}", LARGE[i:], "mallory") for i in range(3)]
    others = [Record("from-bob", LARGE, "bob", {"carol"}), *lies]
    signed = Record("from-alice", 1, "alice", signature=b"hers")
    import_(fed, [signed], lambda peer: True, verify=lambda peer, body, signature: True)
    import_(fed, others, lambda peer: True)
    offered = Record("from-alice", 2, "dave")
    entry = Entry("from-alice", Origin("dave"), offered.digest, offered.payload, None, False)
    cache.commit(Changes(put=cache.stage([entry]), at=5.0))
    made = blur(load(path="a.png"), radius=3)
    run(fed, made, ops)
    [(cid, was)] = cache.made([made.cid]).items()
    [(_, held)] = cache.held([made.cid]).items()
    again = Entry(
        cid, was.origin, was.digest, cache.codec.encode(cache[cid]), None, False, was.recipe, was.inputs_digest, True
    )
    cache.commit(Changes(put=cache.stage([again._replace(source=held.source, seconds=2.5)])))
    cache.commit(Changes(withdraw=lambda origin: origin.peer == "mallory"))  # and no purge
    cache.close()


if __name__ == "__main__":
    main(sys.argv[1])
