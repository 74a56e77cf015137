"""Approximate search in an index folder: made beside the exact rows, measured, and thrown away when these change."""

FLOORS = (
    ("kinds", "memory", "notes"),
    ("local",),
    ("named",),
    ("attach", "measure"),
    ("make",),
    ("mirror",),
)
