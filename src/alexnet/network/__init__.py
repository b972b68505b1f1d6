"""Section 3: the layers, the lineages, and the network built from them."""
