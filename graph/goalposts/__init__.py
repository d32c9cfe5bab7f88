"""The goalpost filter: keeps the questions that given models do not solve."""
