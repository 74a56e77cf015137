"""Encoded pictures: formats restricted, sizes read from headers, deep and odd ones to upright RGB."""
