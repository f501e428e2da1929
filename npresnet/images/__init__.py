"""From a picture to what a network takes: float32[n, h, w, 3]."""
