"""Models of transformers for our encoders: found, made, loaded, and read as features."""
