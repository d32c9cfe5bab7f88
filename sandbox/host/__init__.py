"""Host side of the wall: containers, the pool of warm workers, and what comes back from them."""
