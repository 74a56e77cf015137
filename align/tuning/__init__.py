"""Which parts of a model train, and how: frozen parameters, LoRA, rates by layer."""

from align.tuning.applied import Applied, apply
from align.tuning.tuning import Lora, Tuning

__all__ = ["Applied", "Lora", "Tuning", "apply"]
