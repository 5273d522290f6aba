"""The networks of X-ReID, one module of the paper a file."""
