"""Models and schemes in time: the assimilation cycle, forecasts, and what they tune."""
