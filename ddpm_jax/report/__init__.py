"""One page about a run, and the comparison of several."""
