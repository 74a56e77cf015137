"""score against plain loops, and against the published retrieval values."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from test_infonce import rows

from align.scoring import score
from align.values import TermInfo

reference = json.loads((Path(__file__).parent / "reference" / "symile.json").read_text())["cases"]
terms = [
    TermInfo(("image", "text"), "pairwise", 10.0, -2.0),
    TermInfo(("audio", "image"), "pairwise", 5.0),
    TermInfo(("audio", "image", "text"), "symile", 80.0),
    TermInfo(("audio", "text"), "pairwise", 1e6),
]


def made() -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    text, audio, candidates = (x.detach() for x in rows(3, 3, 7))
    return {"text": text, "audio": audio}, candidates


def test_cosine_sums_the_pairs():
    query, candidates = made()
    got = score({m: 3 * x for m, x in query.items()}, 2 * candidates)
    for i in range(3):
        for j in range(7):
            expected = sum(F.cosine_similarity(x[i], candidates[j], dim=0) for x in query.values())
            assert got[i, j].item() == pytest.approx(float(expected), abs=1e-12)


def test_mip_multiplies():
    query, candidates = made()
    got = score(query, candidates, "mip")
    expected = torch.einsum("qd,qd,cd->qc", query["text"], query["audio"], candidates)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


def test_objective_sums_the_terms_that_fit():
    query, candidates = made()
    text, audio = query["text"], query["audio"]
    by_text = 10 * text @ candidates.T - 2
    by_audio = 5 * audio @ candidates.T
    by_both = 80 * torch.einsum("qd,qd,cd->qc", text, audio, candidates)
    for asked, expected in (
        ({"text": text}, by_text),
        ({"audio": audio}, by_audio),
        ({"text": text, "audio": audio}, by_text + by_audio + by_both),
        ({"text": text, "image": audio}, by_text),  # the candidates' own modality is no help to these terms
    ):
        got = score(asked, candidates, "objective", of="image", terms=terms)
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", reference, ids=lambda c: f"M{c['M']}-scale{c['logit_scale']:.0f}")
def test_equals_the_published_code(case):
    torch.manual_seed(case["seed"])
    xs = [F.normalize(torch.randn(16, 32, dtype=torch.float64), p=2.0, dim=1) for _ in range(case["M"])]
    query = {f"m{i}": x for i, x in enumerate(xs[1:], start=1)}
    by_symile = case["retrieval_symile_cand0"]
    term = TermInfo(tuple(f"m{i}" for i in range(case["M"])), "symile", case["logit_scale"])
    got = score(query, xs[0], "objective", of="m0", terms=[term])
    assert got.argmax(1).tolist() == score(query, xs[0], "mip").argmax(1).tolist() == by_symile["argmax"]
    assert got[0, :2].tolist() == pytest.approx([by_symile["l00"], by_symile["l01"]], abs=1e-12)
    assert got.sum().item() == pytest.approx(by_symile["sum"], abs=1e-11 * case["logit_scale"])
    assert score(query, xs[0]).argmax(1).tolist() == case["retrieval_clip_cand0"]["argmax"]


def test_low_precision_is_scored_in_float32():
    query, candidates = made()
    low = {m: x.bfloat16() for m, x in query.items()}
    with torch.autocast("cpu", torch.bfloat16):
        got = score(low, candidates.bfloat16(), "mip")
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, score({m: x.float() for m, x in low.items()}, candidates.bfloat16().float(), "mip"))


def test_equal_candidates_have_equal_scores():
    candidates = F.normalize(torch.randn(128), dim=0).expand(501, 128)
    for how in ("cosine", "mip"):
        got = score({"text": candidates[:37]}, candidates, how)
        assert (got == got[0, 0]).all()


def test_what_does_not_fit():
    query, candidates = made()
    with pytest.raises(ValueError, match="how is 'cosine', 'mip' or 'objective'; got 'dot'"):
        score(query, candidates, "dot")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a query has at least one modality; got none"):
        score({}, candidates)
    with pytest.raises(
        ValueError, match=r"candidates \(c, D\); got {'text': \(3, 5\), 'audio': \(3, 5\)} and \(7, 4\)"
    ):
        score(query, candidates[:, :4])
    with pytest.raises(ValueError, match="one row a query"):
        score(query | {"audio": query["audio"][:2]}, candidates)
    with pytest.raises(ValueError, match="how='objective' needs of=, the candidates' modality"):
        score(query, candidates, "objective", terms=terms)
    with pytest.raises(
        ValueError, match="no trained term scores points by text and audio alone; the terms are: image with text; audio"
    ):
        score(query, candidates, "objective", of="points", terms=terms)
    with pytest.raises(ValueError, match="the terms are: none"):
        score(query, candidates, "objective", of="image")
