"""Published experiments, and what they and loops report."""
