"""Playing: the graph, its nodes and edges, and the scheduling of many episodes at once."""
