"""Benchmarks: commands that print ratios taken in one run. They never fail on time."""
