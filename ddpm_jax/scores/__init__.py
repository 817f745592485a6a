"""Numbers about images, in any space of features: an image is what a function says about it."""
