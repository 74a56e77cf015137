"""Sources of a build: tables, folders, programs and shards of another make."""
