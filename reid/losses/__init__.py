"""The losses of X-ReID, one a file."""
