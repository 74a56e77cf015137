"""Folders that SentenceTransformer loads, in its own modules and in ours: both encode as the model does."""

from __future__ import annotations

import json
import re

import hf_models
import numpy as np
import pytest
import torch
from PIL import Image as Pil
from safetensors import SafetensorError
from sentence_transformers import SentenceTransformer
from test_formats import undescribed

import align
from align import JointModel, Term, Tower
from align.convert.sentences import check as st_check
from align.convert.sentences import write_sentence_transformers
from align.encoders import HFCaption, HFImage, HFText, ImageCNN, TransformerText
from align.heads import MLP, Linear
from align.losses import InfoNCE, Matryoshka
from align.preprocess import Bytes, Image
from align.published.hf_text import load as load_text

TEXTS = ["a photo of a cat", "Größe, 3.14 & naïve", "two  spaces", "long and " * 60 + "end", "x"]
OWN = ["AlignTowers"]


def pictures(n=3):
    draws = np.random.default_rng(0)
    return [Pil.fromarray(draws.integers(0, 256, (50 + 9 * i, 70, 3), dtype=np.uint8)) for i in range(n)]


def kinds(folder):
    """The classes of a folder's modules."""
    return [part["type"].rpartition(".")[2] for part in json.loads((folder / "modules.json").read_text())]


def gap(model, sentences, **inputs):
    """The largest difference of a coordinate between SentenceTransformer's embeddings and ours."""
    ((m, given),) = inputs.items()
    return float(np.abs(sentences.encode(given) - model.embed(**inputs)[m].numpy()).max())


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A function: the name of a model of transformers -> its folder."""
    top, found = tmp_path_factory.mktemp("sources"), {}

    def get(name):
        if name not in found:
            made = hf_models.clip(top / name) if name == "clip" else hf_models.text(top / name, name)
            found[name] = str(made)
        return found[name]

    return get


def ours(dim=8):
    """A model of pictures and texts without any published part."""
    torch.manual_seed(0)
    towers = {
        "photo": Tower(Image(32), ImageCNN(16, widths=[8, 16])),
        "text": Tower(Bytes(32), TransformerText(259, 32, width=16, depth=1, heads=2)),
    }
    return JointModel(towers, dim).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Our model, the folder, its SentenceTransformer, and the lines."""
    out, model = tmp_path_factory.mktemp("ours") / "out", ours()
    lines = write_sentence_transformers(model, out, prompts={"query": "query: "})
    return model, out, SentenceTransformer(str(out), trust_remote_code=True, device="cpu"), lines


@pytest.mark.parametrize(("name", "pooling"), [("bert", "mean"), ("roberta", "cls"), ("t5", "mean"), ("qwen2", "last")])
@pytest.mark.parametrize("head", [None, Linear])
def test_its_own_modules_encode_as_the_model(sources, tmp_path, name, pooling, head):
    encoder = HFText(sources(name), pretrained=True, pooling=pooling, normalize=name == "t5")
    model = load_text(sources(name)) if head is None else JointModel({"text": Tower(encoder=encoder, head=head)}, 12)
    lines = write_sentence_transformers(model.eval(), tmp_path / "out")
    assert lines[0] == f"wrote {tmp_path / 'out'}: SentenceTransformer({str(tmp_path / 'out')!r}) needs no align"
    made = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    assert kinds(tmp_path / "out")[:2] == ["Transformer", "Pooling"]
    assert gap(model, made, text=TEXTS) <= 1e-5
    assert made.get_embedding_dimension() == model.dim
    assert made.similarity_fn_name == "cosine"
    assert gap(align.load(tmp_path / "out"), made, text=TEXTS) <= 1e-5
    assert "trust_remote_code" not in (tmp_path / "out" / "README.md").read_text()
    assert undescribed(tmp_path / "out", "A model", "A model for other programs") == []


def test_a_prefix_becomes_the_default_prompt(sources, tmp_path):
    from align.preprocess import HFTokens

    tokens = HFTokens(sources("bert"), 40, prefix="query: ")
    with pytest.warns(UserWarning, match="trained with other preprocessing: prefix"):
        tower = Tower(tokens, HFText(sources("bert"), pretrained=True), Linear)
    model = JointModel({"text": tower}, 12).eval()
    write_sentence_transformers(model, tmp_path / "out", prompts={"plain": ""})
    made = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    assert made.prompts | {"query": "", "document": ""} == {
        "align": "query: ",
        "plain": "",
        "query": "",
        "document": "",
    }
    assert gap(model, made, text=TEXTS) <= 1e-5
    assert np.abs(made.encode(TEXTS, prompt_name="plain") - made.encode(TEXTS)).max() > 1e-3


@pytest.mark.parametrize("head", [None, Linear])
def test_clip_is_one_transformer(sources, tmp_path, head):
    image, text = (of(sources("clip"), pretrained=True) for of in (HFImage, HFCaption))
    options = {} if head is None else {"head": head}
    from align.heads import Identity

    options = options or {"head": Identity}
    towers = {"image": Tower(encoder=image, **options), "text": Tower(encoder=text, **options)}
    model = JointModel(towers, 24 if head is None else 16).eval()
    write_sentence_transformers(model, tmp_path / "out")
    assert kinds(tmp_path / "out") == ["Transformer", "Normalize"]
    made = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    assert gap(model, made, text=TEXTS) <= 1e-5
    assert gap(model, made, image=pictures()) <= 1e-5


def test_towers_that_its_modules_cannot_hold_go_through_ours(sources, tmp_path):
    model = JointModel({"text": Tower(encoder=HFText(sources("bert"), pretrained=True), head=MLP)}, 12).eval()
    lines = write_sentence_transformers(model, tmp_path / "out")
    assert lines[0].endswith("Sentence Transformers' modules cannot hold the model, as its head is MLP")
    assert kinds(tmp_path / "out") == OWN
    made = SentenceTransformer(str(tmp_path / "out"), trust_remote_code=True, device="cpu")
    assert gap(model, made, text=TEXTS) <= 1e-5


def test_modules_that_encode_otherwise_are_not_left(sources, tmp_path, monkeypatch):
    monkeypatch.setattr(st_check, "TOLERANCE", -1.0)
    lines = write_sentence_transformers(load_text(sources("bert")).eval(), tmp_path / "out")
    assert re.search("Sentence Transformers' modules would encode text .* apart from the model", lines[0])
    assert kinds(tmp_path / "out") == OWN
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir()) == []


def test_a_full_disk_is_named_in_one_line(sources, tmp_path, monkeypatch):
    """The second copy of the weights is written by transformers, which has an error of another kind."""
    model = load_text(sources("bert")).eval()

    def fail(*args, **options):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(type(model.towers["text"].encoder.model), "save_pretrained", fail)
    with pytest.raises(OSError, match=r"^the modules of Sentence Transformers cannot be written: .* \(os error 28\)$"):
        write_sentence_transformers(model, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_ours_reads_every_modality(folder):
    model, out, made, lines = folder
    assert "trust_remote_code=True" in lines[1]
    assert "trust_remote_code=True" in (out / "README.md").read_text()
    assert made.modalities == ["text", "image"]
    assert made.max_seq_length == 32
    assert made.get_embedding_dimension() == 8
    assert gap(model, made, text=TEXTS) <= 1e-6
    assert gap(model, made, photo=pictures()) <= 1e-6
    assert gap(align.load(out), made, text=TEXTS) <= 1e-6
    mixed = made.encode([{"photo": pictures()[0]}, {"text": "x"}, {"image": pictures()[1]}])
    alone = np.stack([made.encode(pictures()[0]), made.encode("x"), made.encode(pictures()[1])])
    assert np.abs(mixed - alone).max() <= 1e-6
    a, b = made.encode(TEXTS), made.encode(pictures())
    expected = [[sum(x * y for x, y in zip(p, q, strict=True)) for q in b] for p in a]
    assert np.abs(made.similarity(a, b).numpy() - expected).max() <= 1e-6


def test_prompts_go_before_texts_alone(folder):
    model, _, made, _ = folder
    with_prompt = made.encode(["a cat"], prompt_name="query")
    assert np.abs(with_prompt - model.embed(text=["query: a cat"])["text"].numpy()).max() <= 1e-6
    assert np.abs(made.encode(pictures(), prompt_name="query") - made.encode(pictures())).max() == 0


def test_gradients_flow_in_training(folder):
    _, _, made, _ = folder
    features = made(made.preprocess(["a", "b"]))["sentence_embedding"]
    features.sum().backward()
    assert made[0].model.towers["text"].head.project.weight.grad is not None
    made.zero_grad()


def test_it_saves_again(folder, tmp_path):
    _, _, made, _ = folder
    made.save(str(tmp_path / "again"))
    again = SentenceTransformer(str(tmp_path / "again"), trust_remote_code=True, device="cpu")
    assert np.abs(again.encode(TEXTS) - made.encode(TEXTS)).max() == 0


def test_it_asks_for_trust(folder):
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        SentenceTransformer(str(folder[1]), device="cpu")


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"phot": 1}, "no tower for 'phot'; the model has photo, text"),
        ({"photo": b"no picture"}, "photo: image/not-an-image: "),
        ({"photo": 3}, "photo: "),
        ({"photo": 3, "text": "x"}, "an input has one modality, not photo, text: encode each by itself"),
    ],
)
def test_a_bad_input_has_its_line(folder, given, line):
    with pytest.raises(ValueError, match=re.escape(line)):
        folder[2].encode([given])


def test_truncate_dim_is_of_matryoshka_models_alone(tmp_path):
    model = ours()
    with pytest.raises(ValueError, match="truncate=4: the embeddings of this model may be cut to 8: it is no Matryo"):
        write_sentence_transformers(model, tmp_path / "out", truncate=4)
    terms = {"a": Term(Matryoshka(InfoNCE(), [2, 4, 8], [0.0, 1.0, 1.0]), ["photo", "text"])}
    model.terms = align.Objective(terms, dim=8, batch=4, modalities=["photo", "text"]).infos()
    assert [term.prefixes for term in model.terms] == [(4,)]
    assert align.load(align.save(model, tmp_path / "model")).terms == model.terms
    lines = write_sentence_transformers(model, tmp_path / "out", truncate=4)
    assert lines[-1] == "Matryoshka: truncate_dim may be 4"
    made = SentenceTransformer(str(tmp_path / "out"), trust_remote_code=True, device="cpu")
    whole = model.embed(text=TEXTS)["text"]
    assert made.get_embedding_dimension() == 4
    assert np.abs(made.encode(TEXTS) - whole[:, :4].numpy()).max() <= 1e-6
    cut = torch.nn.functional.normalize(whole[:, :4], dim=1)
    assert float((made.similarity(made.encode(TEXTS), made.encode(TEXTS)) - cut @ cut.T).abs().max()) <= 1e-5
    with pytest.raises(ValueError, match=r"truncate_dim=2: the model has 8 dimensions and is trained as a Matr.* of 4"):
        SentenceTransformer(str(tmp_path / "out"), trust_remote_code=True, truncate_dim=2, device="cpu")


def test_a_model_without_text_is_refused_in_one_line(tmp_path, capsys):
    from align.commands import main

    align.save(ours(), tmp_path / "model")
    arguments = ["export", str(tmp_path / "model"), str(tmp_path / "out"), "--to", "sentence-transformers"]
    assert main([*arguments, "--towers", "photo"]) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert "needs a tower that reads text, and the towers here are photo" in said[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
    assert main([*arguments, "--truncate", "3"]) == 1
    assert main([*arguments[:-1], "open_clip", "--truncate", "3"]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
    assert main(arguments) == 0
    assert (tmp_path / "out" / "modules.json").is_file()
