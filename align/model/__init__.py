"""Tower and JointModel: raw files of each modality -> one space."""

from align.model.joint import JointModel
from align.model.tower import Tower

__all__ = ["JointModel", "Tower"]

FLOORS = (
    (
        "adapters",
        "channels_last",
        "checkpointed",
        "compiled",
        "eval_view",
        "naming",
        "origin",
        "place",
        "row_labels",
        "tied",
    ),
    ("embed", "follow", "shared", "tower"),
    ("dense", "pseudo_token"),
    ("joint",),
    ("inside", "mixup", "video"),
    ("compute", "domains", "layers", "sharding", "spaces"),
)
"""Files of this room, the lowest floor first. A file imports lower floors only."""
