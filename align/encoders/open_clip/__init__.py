"""Models of open_clip for our encoders: found, made, loaded one tower at a time."""
