"""Where frames come from: one source a camera, behind one protocol."""
