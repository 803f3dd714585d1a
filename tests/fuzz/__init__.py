"""Fuzzing of what reads foreign bytes: `python -m tests.fuzz --help`, and README.md beside this."""
