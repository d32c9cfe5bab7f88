"""Pure functions over values: parsing, literals, advantages, estimators, reward-hacking checks. No I/O."""
