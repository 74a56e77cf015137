"""Our classes for scikit-learn, LangChain and LlamaIndex, and docs/other-libraries.md, against the real packages."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import torch
from installing import install
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from tiny import made as tiny_model
from written import read_blocks, root

import align.convert
from align.convert import Embedder

PACKAGES = ("langchain-core>=1,<2", "llama-index-core>=0.14,<0.15")


@pytest.fixture(scope="module")
def model():
    """The tiny model, whose towers read vectors of 6."""
    return tiny_model()[0].float().eval()


def rows(n=12):
    draws = np.random.default_rng(0)
    labels = np.arange(n) % 2
    return [(draws.normal(size=6) + 4 * label).astype(np.float32) for label in labels], labels


def test_a_pipeline_embeds_and_classifies(model):
    X, y = rows()
    embedder = Embedder(model, "audio")
    assert np.abs(embedder.transform(X) - model.embed(audio=X)["audio"].numpy()).max() == 0
    assert np.abs(embedder.fit_transform(X, y) - embedder.transform(X)).max() == 0
    assert embedder.get_feature_names_out().tolist() == ["embedding0", "embedding1", "embedding2", "embedding3"]
    pipeline = make_pipeline(Embedder(model, "audio"), LogisticRegression()).fit(X, y)
    table = model.embed(audio=X)["audio"].numpy()
    assert pipeline.predict(X).tolist() == LogisticRegression().fit(table, y).predict(table).tolist()
    search = GridSearchCV(pipeline, {"embedder__modality": ["audio", "text"]}, cv=2).fit(X, y)
    assert search.best_params_["embedder__modality"] in ("audio", "text")
    assert "Embedder" in pipeline._repr_html_()


def test_a_clone_shares_the_weights(model):
    embedder = Embedder(model, "text", batch_size=2).fit([])
    again = clone(embedder)
    assert again.get_params() == embedder.get_params()
    assert again.model is model
    assert not hasattr(again, "loaded_")
    assert again.set_params(modality="audio").modality == "audio"


def test_an_embedder_reads_a_folder(model, tmp_path):
    with pytest.raises(ValueError, match="modality='sound': the model has no such tower; it has image, audio, text"):
        Embedder(model, "sound").fit([])
    with pytest.raises(TypeError, match="X='ab' is one input; transform takes a list of them"):
        Embedder(model, "text").transform("ab")
    assert Embedder(model, "text").get_feature_names_out()[0] == "embedding0"
    from align import JointModel, Tower, save
    from align.encoders import TransformerText
    from align.preprocess import Bytes

    torch.manual_seed(0)
    made = JointModel({"text": Tower(Bytes(16), TransformerText(259, 16, width=8, depth=1, heads=2))}, 4).eval()
    save(made, tmp_path / "model")
    found = Embedder(tmp_path / "model", "text").fit_transform(["a", "b"])
    assert np.abs(found - made.embed(text=["a", "b"])["text"].numpy()).max() == 0


def test_names_are_resolved_on_first_use():
    assert align.convert.__all__ == ["Embedder", "LangChainEmbeddings", "LlamaIndexEmbedding", "mteb"]
    with pytest.raises(AttributeError, match="no attribute 'Embeder'"):
        _ = align.convert.Embeder


@pytest.mark.parametrize("name", ["langchain", "llama_index"])
def test_an_adapter_has_ten_lines(name):
    """Lines of its class's body, without the docstring and empty ones."""
    tree = ast.parse((root / "align" / "convert" / f"{name}.py").read_text(encoding="utf-8"))
    body = next(part for part in tree.body if isinstance(part, ast.ClassDef)).body[1:]
    assert sum((part.end_lineno or 0) - part.lineno + 1 for part in body) <= 10


@pytest.mark.sweep
def test_the_page_runs_with_the_real_packages(tmp_path):
    """In an environment of its own, which borrows the libraries of this one and adds the two."""
    run = subprocess.run
    run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    site = run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True, text=True)
    Path(site.stdout.strip(), "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install(python, *PACKAGES)
    code = "\n".join(block.text for block in read_blocks(root / "docs" / "other-libraries.md", "py"))
    (tmp_path / "page.py").write_text(SETUP + code, encoding="utf-8")
    env = {**os.environ, "PYTHONPATH": str(root)}
    done = run([python, "page.py"], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


SETUP = """
import torch
from align import JointModel, Tower, save
from align.encoders import ImageCNN, TransformerText
from align.preprocess import Bytes, Image
from PIL import Image as Pil

torch.manual_seed(0)
towers = {
    "image": Tower(Image(16), ImageCNN(8, widths=[8])),
    "text": Tower(Bytes(16), TransformerText(259, 16, width=8, depth=1, heads=2)),
}
save(JointModel(towers, 4), "runs/quickstart/model")
Pil.new("RGB", (20, 20), (200, 0, 0)).save("red.png")
"""
