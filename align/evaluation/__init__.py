"""Measurements of a joint space, one evaluator a file, with the protocol that made their numbers."""

from align.evaluation.by_layer import ByLayer
from align.evaluation.choices import Choices
from align.evaluation.class_means import ClassMeans
from align.evaluation.classify import Labelled, classify
from align.evaluation.codes import Codes
from align.evaluation.compatibility import Compatibility
from align.evaluation.composed_file import ComposedQuery, read_composed, write_composed
from align.evaluation.composed_retrieval import Composed
from align.evaluation.dense import Dense
from align.evaluation.drift import Drift
from align.evaluation.findings import Evaluator, Findings
from align.evaluation.gallery import Gallery
from align.evaluation.geometry import Geometry
from align.evaluation.hubness import Hubness
from align.evaluation.probe import Probe
from align.evaluation.prompts import class_prompts
from align.evaluation.protocol import protocol
from align.evaluation.regions import RegionRecall
from align.evaluation.results import Results, evaluate, write_results
from align.evaluation.retrieval import Retrieval, retrieval
from align.evaluation.robustness import Robustness
from align.evaluation.space import Space
from align.evaluation.votes import Votes
from align.evaluation.zeroshot import ZeroShot, zeroshot

__all__ = [
    "ByLayer",
    "Choices",
    "ClassMeans",
    "Codes",
    "Compatibility",
    "Composed",
    "ComposedQuery",
    "Dense",
    "Drift",
    "Evaluator",
    "Findings",
    "Gallery",
    "Geometry",
    "Hubness",
    "Labelled",
    "Probe",
    "RegionRecall",
    "Results",
    "Retrieval",
    "Robustness",
    "Space",
    "Votes",
    "ZeroShot",
    "class_prompts",
    "classify",
    "evaluate",
    "protocol",
    "read_composed",
    "retrieval",
    "write_composed",
    "write_results",
    "zeroshot",
]

FLOORS = (
    ("composed", "composed_file", "counts", "labels", "pairs", "prompts", "region_masks"),
    ("altered", "blocks", "classes", "protocol", "readings", "samples", "stated"),
    ("against_rest", "answers", "descriptions", "hits"),
    ("classified", "classify", "ranking", "space", "spread"),
    ("dense_section", "directions", "findings", "hard_negatives", "notes", "overlap", "retrieval_section"),
    (
        "choices",
        "class_means",
        "codes",
        "compatibility",
        "dense",
        "drift",
        "composed_retrieval",
        "geometry",
        "hubness",
        "pick",
        "probe",
        "region_ranks",
        "trec",
        "votes",
        "zeroshot_facts",
        "zeroshot_section",
    ),
    ("gallery", "regions", "retrieval", "zeroshot"),
    ("by_layer", "robustness"),
    ("by_seed", "compare", "results"),
    ("suites",),
)
