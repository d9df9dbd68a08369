"""The loop: assimilate, train, replace the model, choose."""
