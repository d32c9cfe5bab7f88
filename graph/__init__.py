"""Who moves when: state, nodes, edges, recipes, and the main command `python -m graph.run`."""
