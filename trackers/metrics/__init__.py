"""Tracking metrics, equal to TrackEval's."""
