"""Places between the points of a grid: their weights, and those that change in time."""
