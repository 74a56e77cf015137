"""The server: search, embeddings and classification over HTTP, and the search page."""

FLOORS = (
    ("limits", "refusal", "kinds"),
    ("decoding", "batching", "members", "respond", "bodies", "fields", "data_uri"),
    ("decoders", "schemas"),
    ("openapi",),
    ("loaded",),
    ("service",),
    ("metrics", "items", "embeddings", "classify", "loading"),
    ("search_route", "guard", "status", "docs"),
    ("page",),
    ("app", "server"),
)
