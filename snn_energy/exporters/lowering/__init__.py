"""From a Graph to a Netlist: read the graph, plan the populations, quantize."""
