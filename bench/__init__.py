"""Measurements, each one command without root; `python -m bench` runs them all and says which goals are met.

What the rows mean is in `docs/performance.md`; how they are measured, in `bench/harness.py`.
"""
