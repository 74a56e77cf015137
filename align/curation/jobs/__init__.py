"""Jobs that write shards: worker processes make the samples, and a journal lets a killed job resume."""
