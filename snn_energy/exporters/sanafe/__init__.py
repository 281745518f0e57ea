"""Netlists in SANA-FE, a simulator of neuromorphic chips."""
