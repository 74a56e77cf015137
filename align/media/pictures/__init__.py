"""Encoded pictures: formats restricted, sizes read from headers, deep and odd ones to upright RGB or n channels."""

FLOORS = (
    ("levels", "tiff", "fingerprint"),
    ("avif", "deep"),
    ("formats",),
    ("upright",),
    ("read", "channels"),
    ("bands",),
)
