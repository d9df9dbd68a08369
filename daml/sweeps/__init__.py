"""Sweeps: many experiments at once."""
