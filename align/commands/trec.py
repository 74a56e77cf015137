"""``align trec RUN QRELS`` scores a run by judgements, both as TREC's files."""

from __future__ import annotations

import json as json_format


def trec(run: str, qrels: str, /, *, at: str = "1,5,10", json: bool = False) -> None:
    """Score a list of answers by judgements, in TREC's files

    The measures are those of trec_eval: map, recip_rank, success_k, P_k, recall_k and ndcg_cut_k. Equal scores are
    ordered by docid, the highest first. Every judged query counts, as by trec_eval -c. align evaluate --trec DIR writes
    such files: there success_k is align's recall@k.

    Args:
        run: lines of qid Q0 docid rank score tag, by any system. The order is that of the scores
        qrels: lines of qid 0 docid rel
        at: the k of the measures, separated by commas
        json: print JSON instead of a table
    """
    import sys

    from align.commands.errors import Refused
    from align.commands.named import split
    from align.evaluation.trec import read_qrels, read_run, score_run

    try:
        ks = [int(one) for one in split(at)]
    except ValueError:
        raise Refused(f"--at {at}: the k are whole numbers, as in 1,5,10", code=2) from None
    if not ks or min(ks) < 1:
        raise Refused(f"--at {at}: the k are 1 at least", code=2)
    found = score_run(read_run(run), read_qrels(qrels), ks)
    if json:
        print(json_format.dumps({**found.scores, "num_q": len(found.queries)}, indent=2))
    else:
        print(f"{'num_q':<14} {len(found.queries):>6,}")
        print("\n".join(f"{measure:<14} {value:>6.4f}" for measure, value in found.scores.items()))
    print(*found.notes, sep="\n", end="\n" if found.notes else "", file=sys.stderr)
