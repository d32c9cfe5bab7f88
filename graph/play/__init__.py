"""Playing: the graph, its nodes and edges, and schedulers that run many episodes at once."""
