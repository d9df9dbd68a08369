"""What of two analyses is compared."""


def without_end(analysis):
    """Give an analysis without what it keeps to go on from."""
    return analysis.drop_vars([name for name in analysis if name.startswith("end_")])
