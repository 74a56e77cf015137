"""Models of align as files, and as objects, of other libraries."""
