"""Crops in, embeddings and matches out: X-ReID, its training, evaluation and search. Knows no tracker, no stream."""
