"""Where a cycle starts from: the nearest observations, free runs, an ensemble around these."""
