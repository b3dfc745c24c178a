"""The fast form of the method: equal to the plain one up to rounding, and cheaper (docs/cost.md)."""
