"""Pure functions: parsing of answers, literals, advantages, estimators, reward-hacking checks. No I/O."""
