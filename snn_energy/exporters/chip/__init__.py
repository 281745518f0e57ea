"""From a model to a chip: calibrate, lower, simulate, compare, price, map.  Every runtime of netlists builds on it."""
