"""The pocket world: small real questions, and a tiny transformer that half knows how to answer them."""
