"""Encoded pictures: formats restricted, sizes read from headers, deep and odd ones to upright RGB."""

SUFFIXES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "avif", "tif", "tiff")
