"""The search page: it works without script, and its script makes it better."""

from align.serve.page.routes import page_routes

__all__ = ["page_routes"]

FLOORS = (
    ("filters", "trouble"),
    ("space", "vector"),
    ("query",),
    ("looks", "reply"),
    ("view", "kit", "take"),
    ("classes", "item"),
    ("answer",),
    ("routes",),
)
