"""HFText: poolings, both ways of decoders, settings of Sentence Transformers, latent attention, and its limits."""

import json

import hf_models
import pytest
import torch
import torch.nn.functional as F
from fill import fill
from safetensors.torch import load_file, save_file
from torch import nn

from align.checkpoint import load, save
from align.encoders import HFText
from align.encoders.hf import sentence_folder
from align.encoders.latent_attention import LatentAttention
from align.heads import Identity
from align.model import JointModel, Tower
from align.preprocess import HFTokens

DECODERS = ("gpt2", "llama", "mistral", "qwen2")
TEXTS = ["a photo of a cat", "two dogs", "rain and thunder near the old house"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("texts")


@pytest.fixture(scope="module")
def folders(root):
    return {name: hf_models.text(root / name, name) for name in ("bert", "t5", *DECODERS)}


def rows(folder, side="right", context=24, texts=TEXTS):
    tokens = HFTokens(str(folder), context, padding=side)
    return tokens.collate([tokens.row(x) for x in texts])


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("name", ["bert", "llama"])
def test_poolings_are_of_the_real_tokens(folders, name, pooling):
    encoder = HFText(str(folders[name]), pretrained=True, pooling=pooling).eval()
    values = rows(folders[name])
    found = encoder(values)
    assert torch.equal(found.mask, values["attention_mask"].bool())
    for pooled, tokens, mask in zip(*found, strict=True):
        real = tokens[mask]
        wanted = {"mean": real.mean(0), "cls": real[0], "last": real[-1]}[pooling]
        torch.testing.assert_close(pooled, wanted)
        assert not tokens[~mask].any()


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("name", DECODERS)
def test_decoders_look_both_ways_where_they_are_asked_to(folders, name, both):
    """A later token moves the first one only then. Padding, on either side and with any ids, moves nothing."""
    encoder = HFText(str(folders[name]), pretrained=True, pooling="last", bidirectional=both).eval()
    values = rows(folders[name])
    plain = encoder(values)
    ids = values["input_ids"].clone()
    for i, last in enumerate(values["attention_mask"].sum(1) - 1):
        ids[i, last] = (ids[i, last] + 1) % 200
    moved = (encoder({**values, "input_ids": ids}).tokens - plain.tokens).abs().amax(-1)[:, 0]  # (n,) the first token
    assert (moved > 1e-3).all() if both else (moved == 0).all()
    junk = torch.where(values["attention_mask"] == 1, values["input_ids"], 7)
    torch.testing.assert_close(encoder({**values, "input_ids": junk}).pooled, plain.pooled, rtol=0, atol=1e-6)
    left = encoder(rows(folders[name], "left"))
    torch.testing.assert_close(left.pooled, plain.pooled, rtol=0, atol=1e-6)
    for i in range(len(TEXTS)):
        L = int(values["attention_mask"][i].sum())
        alone = encoder({key: x[i : i + 1, :L] for key, x in values.items()})
        torch.testing.assert_close(alone.pooled[0], plain.pooled[i], rtol=0, atol=1e-5)


def test_both_ways_is_full_attention(folders):
    """transformers' own Llama with its causal mask taken away, on a text without padding."""
    from transformers import LlamaModel

    encoder = HFText(str(folders["llama"]), pretrained=True, bidirectional=True).eval()
    library = LlamaModel.from_pretrained(folders["llama"], dtype=torch.float32, attn_implementation="eager").eval()
    ids = rows(folders["llama"], context=8, texts=["a photo of a small cat in the snow"])["input_ids"]
    with torch.no_grad():
        wanted = library(input_ids=ids, attention_mask=torch.zeros(1, 1, 8, 8))[0]
    found = encoder({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    torch.testing.assert_close(found.tokens, wanted, rtol=0, atol=1e-5)


def test_an_encoder_is_not_asked_to_look_both_ways(folders):
    with pytest.raises(ValueError, match=r"BertModel has no causal attention, so bidirectional=True changes nothing"):
        HFText(str(folders["bert"]), bidirectional=True)


def sentences(folder, old):
    """Write Sentence Transformers' files beside a model, as before version 6 or since. Return the dense layer."""
    layer = fill(nn.Linear(32, 12), 3)
    kinds = ["Transformer", "Pooling", "Dense", "Normalize"]
    home = "sentence_transformers.models." if old else "sentence_transformers.base.modules.some."
    paths = ["", "1_Pooling", "2_Dense", "3_Normalize"]
    parts = [
        {"idx": i, "name": str(i), "path": p, "type": home + k}
        for i, (p, k) in enumerate(zip(paths, kinds, strict=True))
    ]
    (folder / "modules.json").write_text(json.dumps(parts))
    for path in paths[1:]:
        (folder / path).mkdir(exist_ok=True)
    flags = {"word_embedding_dimension": 32, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    new = {"embedding_dimension": 32, "pooling_mode": "cls", "include_prompt": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(flags if old else new))
    dense = {"in_features": 32, "out_features": 12, "bias": True}
    dense["activation_function"] = "torch.nn.modules.activation.Tanh"
    (folder / "2_Dense" / "config.json").write_text(json.dumps(dense))
    save_file({f"linear.{k}": x for k, x in layer.state_dict().items()}, folder / "2_Dense" / "model.safetensors")
    prompts = {"prompts": {"query": "query: ", "document": ""}, "default_prompt_name": "query"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 20, "do_lower_case": True}))
    return layer


@pytest.mark.parametrize("old", [True, False])
def test_what_sentence_transformers_states_is_taken(root, folders, old, tmp_path):
    folder = hf_models.text(tmp_path / "bert", "bert")
    layer = sentences(folder, old)
    encoder = HFText(str(folder), pretrained=True).eval()
    assert (encoder.pooling, encoder.normalize, encoder.prefix) == ("cls", True, "query: ")
    model = JointModel({"text": Tower(encoder=encoder, head=Identity)}, 12)
    tokens = model.preprocess["text"]
    assert (tokens.context, tokens.prefix, tokens.lower) == (20, "query: ", True)
    values = tokens.collate([tokens.row(x) for x in TEXTS])
    bare = HFText(str(folder), pretrained=True, dense=[], normalize=False).eval()(values).pooled
    wanted = F.normalize(torch.tanh(bare @ layer.weight.T + layer.bias), dim=-1)
    found = encoder(values)
    torch.testing.assert_close(found.pooled, wanted)
    assert found.tokens is None  # they are of another width
    save(model, tmp_path / "model")
    again = load(tmp_path / "model")
    assert torch.equal(again.embed(text=TEXTS)["text"], model.eval().embed(text=TEXTS)["text"])
    assert again.towers.text.encoder.dense == [{"inputs": 32, "outputs": 12, "bias": True, "activation": "Tanh"}]


def change(file, **values):
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_parts_of_sentence_transformers_that_are_not_read_are_named(tmp_path):
    sentences(tmp_path, old=False)
    pooling, dense = tmp_path / "1_Pooling" / "config.json", tmp_path / "2_Dense" / "config.json"
    change(pooling, include_prompt=False)
    with pytest.raises(ValueError, match="leaves the prompt out of the pooling"):
        sentence_folder.read_stated(tmp_path)
    change(pooling, pooling_mode=["max", "mean"])
    with pytest.raises(ValueError, match="pools by max and mean, which is not read; known: mean, cls, lasttoken"):
        sentence_folder.read_stated(tmp_path)
    change(pooling, pooling_mode="mean", include_prompt=True)
    change(dense, activation_function="some.Odd")
    with pytest.raises(ValueError, match="has the activation Odd; known: Identity, Tanh"):
        sentence_folder.read_stated(tmp_path)
    change(dense, module_input_name="token_embeddings")
    with pytest.raises(ValueError, match="a dense layer with a residual or of tokens"):
        sentence_folder.read_stated(tmp_path)
    parts = json.loads((tmp_path / "modules.json").read_text())
    (tmp_path / "modules.json").write_text(
        json.dumps([parts[0], {"path": "", "type": "sentence_transformers.models.CNN"}])
    )
    with pytest.raises(ValueError, match="has a part CNN, which is not read"):
        sentence_folder.read_stated(tmp_path)
    (tmp_path / "modules.json").write_text("{")
    with pytest.raises(ValueError, match=r"modules\.json is damaged"):
        sentence_folder.read_stated(tmp_path)


def test_latent_attention_follows_the_paper():
    """Equations 1 and 2 of arXiv:2405.17428 by loops, with the residuals and norms of NV-Embed's code."""
    made = fill(LatentAttention(8, latents=5, heads=2, head_width=3), 1)
    assert set(made.state_dict()) == {
        "latents",
        *(f"cross_attend_blocks.0.fn.{k}.weight" for k in ("to_q", "to_kv", "to_out")),
        *(f"cross_attend_blocks.0.{k}.{p}" for k in ("norm", "norm_context") for p in ("weight", "bias")),
        *(f"cross_attend_blocks.1.fn.net.{i}.{p}" for i in (0, 2) for p in ("weight", "bias")),
        *(f"cross_attend_blocks.1.norm.{p}" for p in ("weight", "bias")),
    }
    attend, mix = made.cross_attend_blocks
    x = torch.randn(2, 4, 8)
    out = made(x)
    latents = attend.norm_context(made.latents)
    keys, values = attend.fn.to_kv(latents).chunk(2, -1)
    for n in range(2):
        for i in range(4):
            query, heads = attend.fn.to_q(attend.norm(x[n, i])), []
            for h in (slice(0, 3), slice(3, 6)):
                weights = torch.softmax(keys[:, h] @ query[h] / 3**0.5, 0)
                heads.append(weights @ values[:, h])
            one = x[n, i] + attend.fn.to_out(torch.cat(heads))
            first, second = mix.fn.net[0](mix.norm(one)).chunk(2)
            torch.testing.assert_close(out[n, i], one + mix.fn.net[2](first * F.gelu(second)))


def test_the_latents_of_a_checkpoint_are_read(folders, tmp_path):
    """NV-Embed's file has the decoder and the pooling side by side."""
    latent = {"latents": 5, "heads": 2, "head_width": 3}
    pooling = fill(LatentAttention(32, **latent), 5)
    tensors = load_file(folders["mistral"] / "model.safetensors")
    tensors = {f"embedding_model.{k}": x for k, x in tensors.items()}
    tensors |= {f"latent_attention_model.{k}": x for k, x in pooling.state_dict().items()}
    save_file(tensors, tmp_path / "model.safetensors")
    config = json.loads((folders["mistral"] / "config.json").read_text())
    options = {"pooling": "latent", "latent": latent, "bidirectional": True, "config": config}
    encoder = HFText("nv-embed", pretrained=str(tmp_path / "model.safetensors"), **options).eval()
    values = rows(folders["mistral"])
    plain = HFText(str(folders["mistral"]), pretrained=True, bidirectional=True).eval()(values)
    tokens = pooling(plain.tokens)
    wanted = torch.stack([x[mask].mean(0) for x, mask in zip(tokens, plain.mask, strict=True)])
    torch.testing.assert_close(encoder(values).pooled, wanted)
    with pytest.raises(ValueError, match=r"14 unknown: latent_attention_model\.cross"):  # not left out in silence
        HFText("nv-embed", pretrained=str(tmp_path / "model.safetensors"), config=config)
    del tensors["latent_attention_model.latents"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="1 missing: latents"):
        HFText("nv-embed", pretrained=str(tmp_path / "model.safetensors"), **options)


def test_no_rows_have_zero_gradients(folders):
    for name, options in (("bert", {}), ("llama", {"bidirectional": True}), ("t5", {}), ("gpt2", {"pooling": "last"})):
        encoder = HFText(str(folders[name]), **options)
        values = {key: x[:0] for key, x in rows(folders[name]).items()}
        found = encoder(values)
        assert found.pooled.shape == (0, 32)
        assert found.tokens.shape == (0, 24, 32)
        found.pooled.sum().backward()
        assert all(p.grad is not None and not p.grad.any() for p in encoder.parameters())


def test_a_tokenizer_has_to_fit_the_encoder(folders):
    with pytest.raises(ValueError, match=r"HFTokens gives context 600, HFText takes at most 512; they have to agree"):
        Tower(HFTokens(str(folders["bert"]), 600), HFText(str(folders["bert"])))
    with pytest.raises(ValueError, match=r"HFTokens gives vocabulary \d+, HFText takes at most 223"):
        Tower(HFTokens(str(folders["llama"]), 24), HFText(str(folders["bert"])))


def test_odd_arguments_are_named(folders, tmp_path):
    with pytest.raises(ValueError, match="pooling='max' is not known; it may be 'mean', 'cls', 'last', 'latent'"):
        HFText(str(folders["bert"]), pooling="max")
    with pytest.raises(ValueError, match=r"latent=\{'heads': 2\} is of pooling='latent', not of 'mean'"):
        HFText(str(folders["bert"]), latent={"heads": 2})
    with pytest.raises(ValueError, match="activation='Module' is not known; it may be 'Identity', 'Tanh'"):
        HFText(str(folders["bert"]), dense=[{"inputs": 32, "outputs": 4, "bias": True, "activation": "Module"}])
    with pytest.raises(ValueError, match=r"CLIPModel is no encoder or decoder of texts alone"):
        HFText("clip", config={"model_type": "clip"})
    with pytest.raises(ValueError, match=r"BartModel is no encoder or decoder of texts alone"):
        HFText("bart", config={"model_type": "bart"})
    with pytest.raises(FileNotFoundError, match="owner/none is not in the cache"):
        HFText("owner/none", pretrained=True)
