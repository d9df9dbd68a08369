"""Models and schemes in time: the assimilation cycle, forecasts, free runs, and what is tuned by them."""
