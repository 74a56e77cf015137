"""Models of open_clip beside the library itself: pictures and texts in, embeddings and probabilities out."""

import io
import json
import os
from pathlib import Path

import numpy as np
import open_clip_models as models
import pytest
import torch
from fill import draw
from PIL import Image as Pil

import align
from align.checkpoint import save
from align.commands import main
from align.encoders import OpenClipImage, OpenClipText
from align.published import load_published
from align.published.open_clip import fits, split_source

COSINE, VALUE = 1e-5, 1e-4
TEXTS = ["a photo of a cat", "Two dogs &amp; a café, naïve_façade!! 3.14", "the quick brown fox jumps over it " * 20]
pytestmark = pytest.mark.filterwarnings("ignore:.*has batch normalisation:UserWarning")
KINDS = ("vit", "quick", "custom", "siglip", "pe", "eva", "mobile", "resnet", "clipa", "coca", "roberta", "mt5")


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    pytest.importorskip("transformers")
    return models.write_kinds(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def pictures():
    """Photographs side by side: three pictures of different sizes."""
    paths = sorted((Path(os.environ.get("ALIGN_DATA", "data")) / "cifar10" / "test").rglob("*.jpg"))[::40]
    if not paths:
        pytest.skip("for want of data: no folder cifar10 in $ALIGN_DATA (default: data)")
    parts = iter(np.asarray(Pil.open(path)) for path in paths)

    def mosaic(rows, columns):
        return Pil.fromarray(np.concatenate([np.concatenate([next(parts) for _ in range(columns)], 1) for _ in range(rows)]))

    return [mosaic(1, 1), mosaic(3, 5), mosaic(4, 2)]


@pytest.fixture(scope="module")
def wholes(kinds):
    """Name -> the library's model, made once."""
    made = {}

    def get(kind):
        if kind not in made:
            made[kind] = models.make(f"tiny-{kind}", **kinds[kind].options)
        return made[kind]

    return get


def worst(ours, whole, pictures, texts):
    """Largest differences in cosine and in value, and the smallest of the largest between different inputs."""
    theirs = dict(zip(("image", "text"), whole.embed(pictures, texts), strict=True))
    found = ours.embed(image=pictures, text=texts)
    cosine = max(float((1 - (found[m] * theirs[m]).sum(-1)).abs().max()) for m in theirs)
    value = max(float((found[m] - theirs[m]).abs().max()) for m in theirs)
    apart = min(float((x[i] - x[j]).abs().max()) for x in theirs.values() for i, j in ((0, 1), (0, 2), (1, 2)))
    return cosine, value, apart


def check(ours, whole, pictures, texts=TEXTS):
    cosine, value, apart = worst(ours, whole, pictures, texts)
    assert cosine <= COSINE
    assert value <= VALUE
    assert apart >= 100 * VALUE
    (term,) = ours.terms
    bias = whole.model.logit_bias
    assert (term.modalities, term.kind) == (("image", "text"), "pairwise")
    assert term.scale == pytest.approx(whole.model.logit_scale.exp().item(), rel=1e-6)
    assert term.bias == pytest.approx(0.0 if bias is None else bias.item(), rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_folder_is_the_librarys_model(kind, wholes, pictures, tmp_path):
    whole = wholes(kind)
    folder = models.save_folder(whole, f"tiny-{kind}", tmp_path / "saved", safe=kind not in ("custom", "roberta"))
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    ours = load_published("open_clip", str(folder))
    check(ours, whole, pictures)
    save(ours, tmp_path / "ours")
    for file in folder.iterdir():  # a saved model needs none of them
        file.unlink()
    again = align.load(tmp_path / "ours")
    for name, x in ours.embed(image=pictures, text=TEXTS).items():
        assert torch.equal(again.embed(image=pictures, text=TEXTS)[name], x)
    parts = json.loads((tmp_path / "ours" / "model.json").read_text())["parts"]
    assert {p["licence"] for p in parts.values()} == {"mit"}
    assert all(Path(p["source"]).parent == folder and len(p["sha256"]) == 64 and not p["changed"] for p in parts.values())
    assert again.terms == ours.terms
