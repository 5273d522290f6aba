"""How good a tracker is: HOTA, CLEAR and identity metrics, equal to those of TrackEval, and tracklet purity."""
