"""Where boxes come from: person detectors behind one protocol."""
