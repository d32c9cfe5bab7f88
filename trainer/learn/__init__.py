"""Learning: micro-batches to losses, optimizer steps, weights."""
