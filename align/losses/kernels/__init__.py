"""Machinery of the losses: checks, pairing, and sums over all tuples of rows in tiles. No file here is a loss."""

FLOORS = (
    ("blocks", "class_vectors", "float32", "labels", "noisy_labels", "precision", "products", "softplus"),
    ("missing", "numerics", "parts"),
    ("merging",),
    ("pairing",),
    ("inputs", "multiply", "rule", "slabs", "token_pairs"),
    (
        "candidates",
        "entropic",
        "gating",
        "positives",
        "row_sums",
        "running",
        "sigmoid",
        "soft",
        "spread",
        "tuple_logits",
        "two_way",
    ),
    ("anchors", "dense", "tiles"),
    ("tuples",),
)
"""Files of this folder, the lowest floor first. A file imports lower floors only."""
