"""The server: search, embeddings and classification over HTTP, and the search page."""

FLOORS = (
    ("ask", "confine", "kinds", "limits", "logs", "refusal", "schemas", "trim"),
    ("channel",),
    ("answered", "asked", "readers", "decoding", "batching", "members", "respond", "bodies", "fields", "data_uri"),
    ("decoders", "forms"),
    ("openapi",),
    ("loaded",),
    ("files",),
    ("service",),
    ("metrics", "items", "embeddings", "classify", "loading"),
    ("heat", "search_route", "guard", "status", "docs"),
    ("page",),
    ("app", "server"),
)
