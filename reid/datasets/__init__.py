"""Data sets as tracklet splits, one data set a file."""
