from __future__ import annotations
import argparse, time
from tests.model.driver import drive
p = argparse.ArgumentParser()
p.add_argument("--seed", type=int, default=0)
p.add_argument("--steps", type=int, default=10000)
p.add_argument("--episode", type=int, default=0)
a = p.parse_args()
t=time.time()
counts, wrong = drive(a.seed, a.steps, episode=a.episode)
print(dict(counts), wrong, time.time()-t)
