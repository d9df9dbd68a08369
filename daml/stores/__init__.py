"""Zarr stores: written whole or not at all, and read with one error for whatever is damaged."""
