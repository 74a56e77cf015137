"""TREC's files: lists of answers (runs) and judgements (qrels), written from a space, read and scored."""

from align.evaluation.trec.evaluator import Trec
from align.evaluation.trec.files import read_qrels, read_run
from align.evaluation.trec.measures import RunScores, score_run

__all__ = ["RunScores", "Trec", "read_qrels", "read_run", "score_run"]

FLOORS = (("files", "measures", "names"), ("evaluator",))
