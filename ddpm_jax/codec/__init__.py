"""A progressive-to-lossless image file driven by an ordinary checkpoint. Sec. 4.3, Algorithms 3 and 4."""
