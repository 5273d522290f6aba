"""How good a tracker is: CLEAR and identity metrics, equal to those of TrackEval."""
