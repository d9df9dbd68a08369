"""Observations: what they are of, how they err, and records of them."""
