"""The assimilation cycle in time, which assimilation and training run."""
