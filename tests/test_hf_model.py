"""Files of transformers models: found, made from a plain config, and loaded with every name checked."""

import json
import sys

import pytest
import torch
from fill import fill
from safetensors.torch import load_file, save_file

from align.encoders.hf import model as hf_model

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48, "vocab_size": 60}
BERT = {"model_type": "bert", **SMALL}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A BERT with the head of a masked language model, as transformers saves it, and a card."""
    from transformers import BertConfig, BertForMaskedLM

    root = tmp_path_factory.mktemp("bert")
    fill(BertForMaskedLM(BertConfig(**SMALL))).save_pretrained(root)
    (root / "README.md").write_text("---\nlicense: mit\n---\n")
    return root


def read(folder):
    found = hf_model.find(str(folder))
    config = hf_model.make_config(found.config)
    tensors = hf_model.read_part(found.weights(), [""])
    options = {"add_pooling_layer": False}
    return hf_model.load("BertModel", config, tensors, "here", skip=("cls",), options=options)


def written(folder, tmp_path, change):
    tensors = change(load_file(folder / "model.safetensors"))
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    save_file(tensors, tmp_path / "model.safetensors")
    return tmp_path


def old_names(tensors):
    """LayerNorm's parameters, and a constant, as checkpoints before 2020 name them."""
    old = {k.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): x for k, x in tensors.items()}
    return old | {"bert.embeddings.position_ids": torch.arange(512)[None]}


def test_old_and_new_names_load_equally(folder, tmp_path):
    whole = read(folder).state_dict()
    stored = load_file(folder / "model.safetensors")
    for name, x in whole.items():
        assert torch.equal(x, stored[f"bert.{name}"])
    plain = {k.removeprefix("bert."): x for k, x in stored.items() if k.startswith("bert.")}
    for i, change in enumerate((old_names, lambda _: plain)):
        (tmp_path / str(i)).mkdir()
        other = read(written(folder, tmp_path / str(i), change)).state_dict()
        assert all(torch.equal(x, other[name]) for name, x in whole.items())


def test_half_precision_is_read_as_float32(folder, tmp_path):
    model = read(written(folder, tmp_path, lambda tensors: {k: x.half() for k, x in tensors.items()}))
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_missing_unknown_and_misshapen_names_are_listed(folder, tmp_path):
    def less(tensors):
        del tensors["bert.encoder.layer.1.output.dense.bias"]
        return tensors | {"bert.encoder.layer.7.odd": torch.zeros(1)}

    with pytest.raises(ValueError, match=r"here does not fit BertModel: 1 missing: encoder\S+bias; 1 unknown: .*odd"):
        read(written(folder, tmp_path, less))
    with pytest.raises(ValueError, match=r"1 tensors of another shape: .*\(7, 32\) instead of \(60, 32\)"):
        read(written(folder, tmp_path, lambda t: t | {"bert.embeddings.word_embeddings.weight": torch.zeros(7, 32)}))


def test_the_origin_has_checksum_and_licence(folder):
    from align.files import sha256

    for source in (str(folder), f"local-dir:{folder}", str(folder / "model.safetensors")):
        origin = hf_model.find(source).origin()
        assert origin.sha256 == sha256(folder / "model.safetensors")
        assert origin.licence == "mit"
        assert origin.source == str(folder / "model.safetensors")


def test_a_plain_config_makes_the_same_model(folder):
    config = hf_model.make_config(hf_model.find(str(folder)).config)
    plain = hf_model.plain_config(config)
    assert json.loads(json.dumps(plain)) == plain
    assert hf_model.plain_config(hf_model.make_config(plain)) == plain
    assert hf_model.create("BertModel", hf_model.make_config(plain)).config._attn_implementation == "sdpa"


def test_bad_files_are_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no config.json: it is no model as transformers saves it"):
        hf_model.find(str(tmp_path))
    config = tmp_path / "config.json"
    config.write_text("{")
    with pytest.raises(ValueError, match=r"config.json is damaged"):
        hf_model.find(str(tmp_path))
    config.write_text("{}")
    with pytest.raises(ValueError, match="names no model_type"):
        hf_model.find(str(tmp_path))
    with pytest.raises(ValueError, match="no model_type 'berd'; did you mean 'bert'"):
        hf_model.make_config({"model_type": "berd"})
    with pytest.raises(ValueError, match="models that bring their own code are not run"):
        hf_model.make_config({"model_type": "0000", "auto_map": {"AutoModel": "evil.Model"}})
    with pytest.raises(ValueError, match="quantised"):
        hf_model.make_config({**BERT, "quantization_config": {"bits": 4}})
    with pytest.raises(ValueError, match="transformers takes no such config of bert"):
        hf_model.make_config({**BERT, "hidden_size": "wide"})
    config.write_text(json.dumps(BERT))
    with pytest.raises(FileNotFoundError, match="no weights in"):
        hf_model.find(str(tmp_path)).weights()
    with pytest.raises(FileNotFoundError, match="owner/none is not in the cache, and the hub cannot be reached"):
        hf_model.find("owner/none")


def test_the_extra_is_named_where_it_is_absent(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"needs transformers; pip install .*\[hf\]"):
        hf_model.make_config(BERT)
