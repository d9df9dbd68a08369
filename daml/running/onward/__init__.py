"""An analysis that goes on from the end of another one, when there are new observations."""
