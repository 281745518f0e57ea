"""Exports: a trained network for another runtime, verified there.  `targets` is the door."""
