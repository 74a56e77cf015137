"""Hard negatives of a set, found in a cache: near rows of other samples, written beside each sample."""
