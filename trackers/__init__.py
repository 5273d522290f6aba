"""Arrays in, arrays out: multi-object trackers on boxes. Knows no camera, no image and no model."""
