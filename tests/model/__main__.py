from __future__ import annotations
import argparse, time
from tests.model.driver import drive
p = argparse.ArgumentParser()
p.add_argument("--seed", type=int, default=0)
p.add_argument("--steps", type=int, default=10000)
p.add_argument("--episode", type=int, default=0)
p.add_argument("--disk", type=int, default=0)
a = p.parse_args()
t=time.time()
p.add_argument
if a.disk:
    from tests.model.durable import DiskWorld
    counts, wrong = drive(a.seed, a.disk, DiskWorld, episode=a.episode, length=250)
else: counts, wrong = drive(a.seed, a.steps, episode=a.episode)
print(dict(counts), wrong, time.time()-t)
