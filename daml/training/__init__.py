"""Training: sequences, objectives, the engine that all trainings share, and what is held out."""
