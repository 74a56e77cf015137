"""What a joint space is worth: zero-shot classification and any-to-any retrieval, with the protocol that made them."""

from align.evaluation.protocol import protocol
from align.evaluation.results import Results, evaluate, write_results
from align.evaluation.retrieval import retrieval
from align.evaluation.zeroshot import class_prompts, zeroshot

__all__ = [
    "Results",
    "class_prompts",
    "evaluate",
    "protocol",
    "retrieval",
    "write_results",
    "zeroshot",
]
