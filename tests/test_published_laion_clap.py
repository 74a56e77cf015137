"""LAION's CLAP: files as LAION saved them, beside what its own code made of the same weights and sounds."""

from __future__ import annotations

import os

import hf_tokenizers
import proof
import pytest
import torch
from faint import make_faint
from golden import laion_clap as golden
from keys import read_keys
from laion_clap_file import GOLDEN, state
from safetensors.torch import load_file
from torch.nn.functional import normalize

import align
from align.checkpoint import save
from align.commands import main
from align.encoders import HTSAT, HFCaption
from align.encoders.htsat.encoder import fold
from align.encoders.htsat.windows import cut, edge_mask, join, relative_index
from align.encoders.weights import check_weights
from align.preprocess import Audio
from align.preprocess.front_ends.laion_clap import quantise
from align.published import laion_clap, load_published
from align.published.laion_sizes import audio_sizes, text_sizes

NAMES = {"unfused": False, "fused": True}
every = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def theirs():
    return load_file(GOLDEN / "laion_clap.safetensors")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Name -> a published file with a small tokenizer beside it."""
    pytest.importorskip("transformers")
    folder = hf_tokenizers.roberta(tmp_path_factory.mktemp("clap"))
    return {name: golden.write_published(state(fusion), folder / f"{name}.pt") for name, fusion in NAMES.items()}


@pytest.fixture(scope="module")
def models(files):
    return {name: load_published("laion-clap", str(file)) for name, file in files.items()}


def embed(model, waves):
    audio = model.preprocess["audio"]
    rows = audio.collate([audio.eval(torch.from_numpy(x)) for x in waves])
    with torch.no_grad():
        return normalize(model.towers["audio"](rows), dim=-1)


@torch.no_grad()
def read(model):
    ids = golden.make_ids(golden.SEED)
    found = model.towers["text"].encoder({"input_ids": ids, "attention_mask": (ids != 1).long()}).pooled
    return normalize(found, dim=-1)


@every
def test_a_published_file_hears_as_laions_code(name, models, theirs):
    print(proof.agree(embed(models[name], golden.make_waves(golden.SEED)), theirs[f"{name}.waves"]))


@every
def test_every_epsilon_is_that_of_laions_code(name, files, theirs):
    path = files[name].with_name(f"{name}-faint.pt")
    golden.write_published(make_faint(state(NAMES[name])), path)
    model = load_published("laion-clap", str(path))
    proof.agree(embed(model, golden.make_waves(golden.SEED)), theirs[f"{name}.faint"], 0.1)
    if name == "unfused":
        proof.agree(read(model), theirs["texts.faint"], 0.1)


@every
def test_recordings(name, models, theirs, real_data):
    files = golden.read_recordings(real_data("esc10"))
    print(proof.agree(embed(models[name], files), theirs[f"{name}.recordings"]))


@every
def test_the_preset_is_laions_spectrogram(name, theirs):
    audio = Audio(preset="laion-clap-fusion" if name == "fused" else "laion-clap")
    rows = audio.device(audio.collate([audio.eval(torch.from_numpy(x)) for x in golden.make_waves(golden.SEED)]))
    for i, row in enumerate(rows):
        want = theirs[f"{name}.mel{i}"]
        if name == "fused" and i == 0:  # not longer than a window: its parts, which LAION's code leaves out, are zero
            assert not row[1:].any()
            row, want = row[:1], want[:1]
        assert (row[:, *golden.EVERY] - want).abs().max() < 0.05  # quiet bins, in the float32 of LAION's code
        assert (row[:, *golden.EVERY] - want).abs().mean() < 1e-3


def test_texts(models, theirs):
    print(proof.agree(read(models["unfused"]), theirs["texts"]))


def test_tokens_are_those_of_laions_hook(files, models):
    from transformers import AutoTokenizer

    texts = ["dog", "The sound of rain; café!", "a quick brown fox jumps over the lazy dog" + ", a red mat" * 40]
    whole = AutoTokenizer.from_pretrained(str(files["fused"].parent))
    want = whole(texts, padding="max_length", truncation=True, max_length=77, return_tensors="pt")
    words = models["fused"].preprocess["text"]
    rows = words.collate([words.row(x) for x in texts])
    assert all(torch.equal(rows[key], want[key]) for key in ("input_ids", "attention_mask"))


@every
def test_a_model_folder_is_the_model(name, models, tmp_path):
    save(models[name], tmp_path / "model")
    again = align.load(tmp_path / "model")
    waves = golden.make_waves(golden.SEED)
    assert (embed(again, waves) - embed(models[name], waves)).abs().max() <= 1e-6
    (term,) = again.terms
    assert term.scale == pytest.approx(float(state(NAMES[name])["logit_scale_a"].exp()))
    assert again.towers["audio"].encoder.origin.source.endswith(f"{name}.pt")


def test_sounds_alone_need_no_tokenizer_and_no_transformers(files, tmp_path, monkeypatch):
    def absent():
        raise AssertionError("asked for transformers")

    monkeypatch.setattr(laion_clap, "library", absent)
    alone = tmp_path / "alone.pt"
    os.link(files["unfused"], alone)
    assert load_published("laion-clap", str(alone), towers=["audio"]).modalities == ["audio"]


def test_sources(files, tmp_path, capsys):
    alone = tmp_path / "alone.pt"
    os.link(files["unfused"], alone)
    with pytest.raises(FileNotFoundError, match="FacebookAI/roberta-base is not in the cache, and the hub cannot be"):
        load_published("laion-clap", str(alone))
    assert main(["import", "laion-clap", f"{files['unfused'].parent}@{alone}", str(tmp_path / "model")]) == 0
    assert "audio with text: scale" in capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match=r"x.pt of owner/name is not in the cache"):
        load_published("laion-clap", "hf-hub:owner/name/x.pt")
    with pytest.raises(ValueError, match=r"has the form hf-hub:owner/name/FILE.pt"):
        load_published("laion-clap", "hf-hub:owner/name")


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("audio_branch.logmel_extractor.melW", lambda x: x + 1e-5, "another constant than ours: .*melW"),
        ("audio_branch.spectrogram_extractor.stft.conv_imag.weight", lambda x: -x, "another constant .*conv_imag"),
        ("audio_branch.layers.0.blocks.0.attn.relative_position_index", lambda x: x.T, "position_index"),
        ("audio_branch.layers.0.blocks.1.attn_mask", lambda x: x.flip(0), "attn_mask"),
        (
            "text_branch.embeddings.token_type_embeddings.weight",
            lambda x: x.repeat(2, 1),
            "that is no RoBERTa; its",
        ),
        ("text_branch.embeddings.token_type_embeddings.weight", lambda x: x.sum(), "that is no RoBERTa; its"),
        ("audio_branch.bn0.weight", None, "1 missing: audio_branch.bn0.weight"),
        ("audio_branch.bn0.weight", lambda x: x[:3], r"odd.pt: size=.* must be a multiple of n_mels=3"),
        ("text_branch.embeddings.word_embeddings.weight", lambda x: x.T, r"odd.pt: .*hidden size"),
        ("logit_scale_a", None, "1 missing: logit_scale_a"),
        ("audio_branch.layers.1.blocks.0.attn.qkv.bias", None, "1 missing: stages.1.blocks.0.attention.qkv.bias"),
        ("audio_branch.patch_embed.proj.weight", lambda x: x[0], "of another shape: .*instead of 4 dimensions"),
    ],
)
def test_files_that_are_not_laions_are_refused(name, change, said, tmp_path):
    pytest.importorskip("transformers")
    tensors = state()
    x = tensors.pop(name)
    if change is not None:
        tensors[name] = change(x)
    torch.save({"state_dict": tensors}, tmp_path / "odd.pt")
    with pytest.raises(ValueError, match=said):
        load_published("laion-clap", str(tmp_path / "odd.pt"))


@pytest.mark.parametrize("name", ["tiny", "tiny-fusion", "base"])
def test_the_published_files_have_the_names_of_the_whole_model(name):
    pytest.importorskip("transformers")
    shapes = read_keys(GOLDEN / f"laion_clap-{name}.keys")
    with torch.device("meta"):
        tensors = {key: torch.empty(shape) for key, shape in shapes.items()}
        audio = HTSAT(**audio_sizes(tensors, name))
        text = HFCaption("roberta-base", config=text_sizes(tensors, name))
    check_weights(text.model, laion_clap.rename_text(tensors), name, laion_clap.COUNTED)
    found = laion_clap.rename_audio(tensors)
    assert {k: x.shape for k, x in found.items()} == {k: x.shape for k, x in audio.state_dict().items()}
    assert (audio.width, text.width, audio.fusion) == (512, 512, name == "tiny-fusion")
    assert text_sizes(tensors, name)["num_attention_heads"] == 12
    assert laion_clap.fits(shapes)
    assert align.published.likely_layouts(shapes) == ["laion-clap"]


@pytest.mark.sweep
def test_every_tensor_moves_the_output(models):
    """The least effects are printed by the script of the goldens."""
    for m, name in (("audio", "fused"), ("text", "unfused")):
        tower = models[name].towers[m]
        if m == "audio":
            audio = tower.preprocess
            rows = audio.collate([audio.eval(torch.from_numpy(x)) for x in golden.make_waves(golden.SEED)[1:]])
        else:
            ids = golden.make_ids(golden.SEED)
            rows = {"input_ids": ids, "attention_mask": (ids != 1).long()}
        exempt = {"key.bias": "the softmax takes it away"}
        assert proof.unmoved(tower.encoder, lambda t=tower.encoder, r=rows: t(r).pooled, exempt, 0.01) == []


def test_windows_are_those_of_plain_loops():
    x = torch.randn(2, 8, 8, 3)
    windows = cut(x, 4)
    assert torch.equal(windows[1, 2, 4 * 1 + 3], x[1, 4 + 1, 3])  # the third window, below the first
    assert torch.equal(join(windows, 4, 8), x)
    assert relative_index(8)[8 * 1 + 2, 8 * 7 + 5] == (1 - 7 + 7) * 15 + 2 - 5 + 7
    mask = edge_mask(8, 4, 2)
    assert not mask[0].any()
    assert (mask[1, 0, 1], mask[1, 0, 2], mask[3, 0, 10]) == (0, -100, -100)
    mel = torch.arange(8.0)[None, None] + torch.zeros(1, 1, 2, 8)
    assert fold(mel, 4)[0, 0].tolist() == [[0, 1, 2, 3], [0, 1, 2, 3], [4, 5, 6, 7], [4, 5, 6, 7]]


def test_waves_become_16_bits_cut_towards_zero():
    x = torch.tensor([2.0, -1.5, 0.9 / 32767, -0.9 / 32767, 1.9 / 32767, 0.5])
    assert torch.equal(quantise(x) * 32767, torch.tensor([32767.0, -32767, 0, 0, 1, 16383]))


def test_training_draws_the_parts_and_masks_no_short_sound_into_a_long_one():
    audio = Audio(preset="laion-clap-fusion")
    short, _, long = (torch.from_numpy(x) for x in golden.make_waves(golden.SEED))
    rows = [audio.train(long, torch.Generator().manual_seed(i)) for i in range(2)]
    assert torch.equal(rows[0][0], rows[1][0])
    assert all((a != b).any() for a, b in zip(rows[0][1:], rows[1][1:], strict=True))
    masked = audio.device(audio.collate([audio.train(short, torch.Generator())]), torch.Generator().manual_seed(0))
    assert masked[:, 0].ne(audio.eval(short)[0]).any()
    assert not masked[:, 1:].any()


def test_a_short_row_is_not_fused_and_no_row_depends_on_another():
    torch.manual_seed(0)
    encoder = HTSAT(8, (1, 1), (2, 2), 16, 64, window=4, fusion=True).double().eval()
    x = torch.randn(2, 4, 16, 99, dtype=torch.float64)
    x[0, 1:] = 0
    pooled = encoder(x).pooled
    plain = HTSAT(8, (1, 1), (2, 2), 16, 64, window=4).double().eval()
    plain.load_state_dict({k: v for k, v in encoder.state_dict().items() if "parts" not in k and "fusion" not in k})
    torch.testing.assert_close(plain(x[:, :1]).pooled[0], pooled[0])
    assert (plain(x[:, :1]).pooled[1] - pooled[1]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: HTSAT(depths=(1, 1)), "must be as many"),
        (lambda: HTSAT(n_mels=60), "must be a multiple of n_mels=60"),
        (lambda: HTSAT(window=6), "has no whole windows of 6"),
        (lambda: HTSAT(heads=(5, 8, 16, 32)), "must divide the widths, 96 at stage 0"),
        (
            lambda: HTSAT(8, (1,), (1,))(torch.zeros(1, 4, 64, 9)),
            r"takes \(n, 1, 64, up to 1024\), not \(n, 4, 64, 9\)",
        ),
    ],
)
def test_what_htsat_refuses(make, said):
    with pytest.raises(ValueError, match=said):
        make()
