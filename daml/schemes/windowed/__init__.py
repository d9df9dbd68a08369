"""Schemes that analyse the states of some model steps together: those of a window."""
