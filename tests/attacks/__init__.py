"""Attacks on the promises, kept: each once broke something, or covers what no other test does."""
