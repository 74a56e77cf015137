"""Jobs: shards to be written, their samples made by processes in parallel, journaled and continued."""
