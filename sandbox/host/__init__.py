"""Host side of the trust boundary: containers, the pool of warm workers, and what comes back from them."""
