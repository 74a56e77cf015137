"""Hard negatives from a cache: near rows of other samples, written beside each sample."""
