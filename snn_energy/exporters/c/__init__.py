"""A netlist as C11 source: written, built, run, and used as the fast simulator."""
