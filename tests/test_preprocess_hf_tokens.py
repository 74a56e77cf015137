"""HFTokens gives transformers' ids, without transformers once it is made."""

import copy
import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import hf_tokenizers
import pytest
import torch

from align.checkpoint.describe import describe
from align.data.join import join
from align.preprocess import HFTokens, Preprocess, hf_tokenizer
from align.values import Batch, Rows

KINDS = ("bert", "roberta", "gpt2", "clip", "t5", "siglip", "llama")
TEXTS = [
    "a photo of a cat",
    "HELLO World, don't!",
    "x" * 300,
    "naïve café Zürich ÀÉ ß İ ΟΔΟΣ",
    "日本語 テスト 👩‍👩‍👧 🦊",
    "a_b-c (d) [e] {f} 3.14%",
    "word " * 100,
    "a <mask> [MASK] [SEP]x",
    "▁under▁score",
    "zero\u200bwidth\u00a0nbsp \u2028line",
    "\x01\x1f control",
    ".",
    "a . b ! c",
    "ﬁ ﬂ ① ½ e\u0301",
    "( a cat",
    "a cat .",
    "tabs\tand\n\nlines  and   spaces",
    "a</s>",
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("tokenizers")
    return {kind: getattr(hf_tokenizers, kind)(root / kind) for kind in KINDS}


def theirs(folder, texts, context):
    from transformers import AutoTokenizer

    whole = AutoTokenizer.from_pretrained(str(folder))
    if whole.pad_token is None:
        whole.pad_token = whole.eos_token
    return whole(texts, padding="max_length", truncation=True, max_length=context, return_tensors="pt")


@pytest.mark.filterwarnings("ignore:This sequence already has </s>")
@pytest.mark.parametrize("context", [8, 64])
@pytest.mark.parametrize("kind", KINDS)
def test_the_ids_are_those_of_transformers(folders, kind, context):
    tokens = HFTokens(str(folders[kind]), context)
    ours, wanted = tokens.collate([tokens.row(x) for x in TEXTS]), theirs(folders[kind], TEXTS, context)
    for i, text in enumerate(TEXTS):
        assert ours["input_ids"][i].tolist() == wanted["input_ids"][i].tolist(), text
    kept = (
        -1 if kind == "siglip" else len(TEXTS)
    )  # the last text ends itself, and SigLIP, which reads no mask, knows it
    assert torch.equal(ours["attention_mask"][:kept], wanted["attention_mask"][:kept])
    assert tokens.eval("").shape == (2, context)
    assert torch.equal(tokens.eval(""), torch.cat(list(_pair(theirs(folders[kind], [""], context)))))


def _pair(found):
    return found["input_ids"], found["attention_mask"]


@pytest.mark.parametrize("kind", ["bert", "siglip", "llama"])
def test_a_checkpoint_needs_the_tokenizers_file_alone(folders, kind, tmp_path):
    made = HFTokens(str(folders[kind]), 16, prefix="query: ", strip_sep=True if kind == "bert" else None)
    file = tmp_path / "text.tokenizer.json"
    file.write_text(made.assets()["tokenizer"], encoding="utf-8")
    kept = {
        name: getattr(made, name) for name in ("context", "prefix", "lower", "clean", "strip_sep", "padding", "trim")
    }
    again = HFTokens(str(file), **kept)
    for other in (again, copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert [other.eval(x).tolist() for x in TEXTS] == [made.eval(x).tolist() for x in TEXTS]


def test_arguments_are_attributes_that_yaml_can_say(folders):
    from jsonargparse import ArgumentParser

    made = HFTokens(str(folders["bert"]), 16, prefix="query: ", clean="lower")
    said = json.loads(json.dumps(describe(made)))
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--p", type=Preprocess)
    instantiate = getattr(parser, "instantiate", None) or parser.instantiate_classes  # its name until 4.48
    again = instantiate(parser.parse_object({"p": said})).p
    assert repr(again) == repr(made)
    assert torch.equal(again.train("a cat", torch.Generator()), made.eval("a cat"))


@pytest.mark.slow
def test_loading_imports_no_transformers(folders, tmp_path):
    file = tmp_path / "text.tokenizer.json"
    file.write_text(HFTokens(str(folders["bert"]), 8).assets()["tokenizer"], encoding="utf-8")
    code = (
        "import sys; from align.preprocess import HFTokens; "
        f"HFTokens({str(file)!r}, 8).row('a cat'); assert 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_prefix_lower_clean_and_separator(folders):
    folder = str(folders["roberta"])
    plain = HFTokens(folder, 32)
    assert torch.equal(HFTokens(folder, 32, prefix="query: ").eval("a cat"), plain.eval("query: a cat"))
    assert torch.equal(HFTokens(folder, 32, lower=True).eval("A Cat"), plain.eval("a cat"))
    assert torch.equal(HFTokens(folder, 32, clean="whitespace").eval(" A &amp;amp;  cat\n"), plain.eval("A & cat"))
    assert torch.equal(HFTokens(folder, 32, clean="lower").eval(" A  cat"), plain.eval("a cat"))
    assert torch.equal(HFTokens(folder, 32, clean="canonicalize").eval("A_b, (cat)!"), plain.eval("a b cat"))
    stripped = HFTokens(folder, 32, strip_sep=True)
    assert stripped.strip_sep == "</s>"
    ids, mask = plain.eval("a cat")
    assert stripped.eval("a cat")[0].tolist() == [0 if i == 2 else i for i in ids.tolist()]
    assert torch.equal(stripped.eval("a cat")[1], mask)


def test_a_model_may_read_its_padding(folders, tmp_path):
    """The tokenizers of published SigLIPs state ids as their only input."""
    folder = tmp_path / "siglip"
    shutil.copytree(folders["siglip"], folder)
    stated = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(stated | {"model_input_names": ["input_ids"]}))
    tokens, masked = HFTokens(str(folder), 16), HFTokens(str(folders["siglip"]), 16)
    assert (tokens.mask, masked.mask) == (False, True)
    assert torch.equal(tokens.eval("a cat")[0], masked.eval("a cat")[0])
    assert tokens.eval("a cat")[1].tolist() == [1] * 16
    assert tokens.device(tokens.collate([tokens.eval("a cat")]))["input_ids"].shape == (1, 16)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_trimmed_for_a_whole_batch_only(folders, side):
    tokens = HFTokens(str(folders["bert"]), 32, padding=side)
    rows = tokens.collate([tokens.row("a cat"), tokens.row("a photo of a cat")])
    assert rows["input_ids"].shape == rows["attention_mask"].shape == (2, 32)
    trimmed = tokens.device(rows)
    longest = int(rows["attention_mask"].sum(1).max())
    assert trimmed["input_ids"].shape == (2, longest)
    for i in range(2):
        kept = trimmed["attention_mask"][i].bool(), rows["attention_mask"][i].bool()
        assert torch.equal(trimmed["input_ids"][i][kept[0]], rows["input_ids"][i][kept[1]])
    none = tokens.collate([])
    assert none["input_ids"].shape == tokens.device(none)["input_ids"].shape == (0, 32)
    assert HFTokens(str(folders["bert"]), 32, trim=False).device(rows) is rows


def test_pieces_of_workers_join_to_the_batch(folders):
    tokens = HFTokens(str(folders["bert"]), 8)

    def piece(texts, positions):
        sample = torch.arange(len(texts))
        rows = {"text": Rows(tokens.collate([tokens.row(x) for x in texts]), sample)}
        return Batch(
            rows, ids=list(texts), position=torch.tensor(positions), labels=[None] * len(texts), source=list(texts)
        )

    joined = join([piece(["a cat", "two dogs"], [0, 2]), piece([], []), piece(["rain"], [1])])
    whole = piece(["a cat", "rain", "two dogs"], [0, 1, 2])
    for name, x in joined["text"].values.items():
        assert torch.equal(x, whole["text"].values[name])


def test_what_is_no_tokenizer(folders, tmp_path, monkeypatch):
    odd = tmp_path / "odd.json"
    odd.write_text("{}")
    with pytest.raises(ValueError, match="is no tokenizer of the library tokenizers"):
        HFTokens(str(odd), 8)
    with pytest.raises(ValueError, match="states no padding; give the folder of its model"):
        HFTokens(str(folders["bert"] / "tokenizer.json"), 8)
    with pytest.raises(ValueError, match="holds no tokenizer that transformers reads"):
        HFTokens(str(tmp_path), 8)
    with pytest.raises(FileNotFoundError, match=r"no file or folder \./none"):
        HFTokens("./none", 8)
    with pytest.raises(ValueError, match=r"strip_sep=True: the tokenizer .* states no separator"):
        HFTokens(str(folders["t5"]), 8, strip_sep=True)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"needs transformers; pip install .*\[hf\]"):
        hf_tokenizer.make_tokenizer(str(folders["bert"]))


def test_the_hub_is_not_asked_twice_offline():
    with pytest.raises(FileNotFoundError, match="owner/none is not in the cache, and the hub cannot be reached"):
        HFTokens("owner/none", 8)
    assert not Path("owner").exists()
