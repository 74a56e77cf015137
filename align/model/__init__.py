"""Tower and JointModel: raw files of each modality -> one space."""

from align.model.joint import JointModel
from align.model.tower import Tower

__all__ = ["JointModel", "Tower"]
