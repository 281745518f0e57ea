"""Packages that run in the Lava runtime by themselves; `program/` is what they carry."""
