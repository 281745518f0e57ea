"""From a model to a chip: calibrate, lower, simulate, compare, price, map."""
