"""The search page: it works without script, and its script makes it better."""

from align.serve.page.routes import page_routes

__all__ = ["page_routes"]

FLOORS = (
    ("filters", "space"),
    ("query",),
    ("looks", "reply"),
    ("view", "classes", "kit", "take"),
    ("item",),
    ("routes",),
)
