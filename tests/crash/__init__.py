"""Crashes on purpose: verbs killed at every point (`sweep`), and power cut at every point (`powercut`)."""
