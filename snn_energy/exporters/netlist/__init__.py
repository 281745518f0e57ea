"""The netlist of a Loihi-like chip: the record, its checks, files and simulator, its cost, its mapping."""
