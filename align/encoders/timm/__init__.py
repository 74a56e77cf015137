"""Models of timm for our encoders: found, made, loaded, and read as features."""
