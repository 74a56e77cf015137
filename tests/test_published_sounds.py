"""Layouts of sounds beside transformers itself: files and texts in, its processor's and model's vectors out."""

from __future__ import annotations

import io
import json
from pathlib import Path
from unittest.mock import patch

import hf_sounds as models
import numpy as np
import proof
import pytest
import soundfile
import torch
from few import few
from torch.nn.functional import normalize

import align
from align.checkpoint import save
from align.commands import main
from align.published import load_published

VALUE = proof.VALUE
TEXTS = ["dog", "The sound of rain and thunder; café!", "a quick brown fox jumps over the lazy dog" + ", a red mat" * 4]
LAYOUTS = {
    "clap": ("clap-hf", models.clap, {}),
    "clap-fused": ("clap-hf", models.clap, {"fused": True}),
    "whisper": ("whisper", models.whisper, {}),
    "ast": ("ast", models.ast, {}),
    "pe-av": ("pe-av", models.pe_av, {}),
    "pe-av-video": ("pe-av", models.pe_av, {"video": True}),
}
NAMES = [pytest.param(name, marks=[pytest.mark.sweep] if "video" in name else []) for name in LAYOUTS]
every = pytest.mark.parametrize("name", NAMES)


class Library:
    """transformers' model and processor of a folder, one input at a time, its random draws fixed to the middle."""

    def __init__(self, folder: Path):
        import transformers

        config = json.loads((folder / "config.json").read_text())
        self.kind = config["model_type"]
        with models._quiet():
            self.model = getattr(transformers, config["architectures"][0]).from_pretrained(folder).eval()
            self.processor = transformers.AutoProcessor.from_pretrained(folder)

    def sounds(self, waves, rate):
        return torch.cat([self.sound(x, rate) for x in waves])

    @torch.no_grad()
    def sound(self, x, rate):
        with (
            patch("numpy.random.randint", lambda low, high: int(0.5 * (high - 1e-6))),
            patch("numpy.random.choice", lambda places: places[len(places) // 2]),
        ):
            took = getattr(self.processor, "feature_extractor", self.processor)
            values = took(x, sampling_rate=rate, return_tensors="pt")
        if self.kind == "clap":
            return self.model.get_audio_features(**values).pooler_output
        if self.kind == "whisper":
            tokens = self.model.model.encoder(**values).last_hidden_state[:, : -(-len(x) // 320)]
            return normalize(tokens.mean(1), dim=-1)
        if self.kind.startswith("pe"):
            return self.model.get_audio_embeds(**values)
        return normalize(self.model.audio_spectrogram_transformer(**values).pooler_output, dim=-1)

    @torch.no_grad()
    def texts(self, texts):
        values = self.processor.tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        values = {name: values[name] for name in ("input_ids", "attention_mask")}
        if self.kind == "clap":
            return self.model.get_text_features(**values).pooler_output
        inner = getattr(self.model, "audio_model", self.model)  # its get_text_audio_embeds fails in 5.24
        return inner(**values, input_values=torch.zeros(1, 1, 1920)).text_audio_embeds

    @torch.no_grad()
    def probabilities(self, sounds, texts):
        if self.kind == "clap":
            logits = self.model.logit_scale_a.exp() * sounds @ texts.T
        else:
            inner = getattr(self.model, "audio_model", self.model)
            logits = sounds @ texts.T * inner.text_audio_logit_scale + inner.text_audio_logit_bias
        return logits.softmax(1)


def encoded(seconds, pitch, rate=44100):
    """A stereo FLAC of a sweep and noise."""
    t = np.arange(round(seconds * rate)) / rate
    wave = 0.4 * np.sin(2 * np.pi * pitch * (1 + 0.2 * np.sin(3 * t)) * t) * np.cos(pitch * t / 90) ** 2
    wave += np.random.default_rng(int(pitch)).normal(0, 0.02, len(t))
    file = io.BytesIO()
    soundfile.write(file, np.stack([wave, 0.5 * wave], 1), rate, format="FLAC")
    return file.getvalue()


def noises(level, rate=48000):
    """White noise that grows, twice. At its level CLAP's decibels are around 0, so that small tensors count."""
    draw = np.random.default_rng(0)
    return [
        (level * draw.normal(size=round(s * rate)) * (1 + np.linspace(-0.5, 0.5, round(s * rate))), rate)
        for s in (0.3, 0.4)
    ]


SOUNDS = [encoded(0.4, 220), encoded(2.6, 900), encoded(10.9, 3000)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Name -> the folder of a small model, and the library's own model of it, made once."""
    made = {}

    def get(name):
        if name not in made:
            _, make, options = LAYOUTS[name]
            folder = make(tmp_path_factory.mktemp(name) / "model", **options)
            made[name] = folder, Library(folder)
        return made[name]

    return get


def check(ours, library, sounds, texts=TEXTS, scale=1.0):
    audio = ours.preprocess["audio"]
    theirs = {"audio": library.sounds([audio.decode(x).numpy() for x in sounds], audio.sample_rate)}
    found = {"audio": ours.embed(audio=sounds)["audio"]}
    if "text" in ours.towers:
        theirs["text"], found["text"] = library.texts(texts), ours.embed(text=texts)["text"]
    return {m: proof.agree(found[m], theirs[m], scale) for m in theirs}


@pytest.mark.slow
@pytest.mark.parametrize("name", few(NAMES, 2))
def test_a_published_folder_is_the_librarys_model(name, folders, tmp_path):
    folder, library = folders(name)
    ours = load_published(LAYOUTS[name][0], str(folder))
    check(ours, library, SOUNDS, scale=SCALES.get(name, 1.0))
    save(ours, tmp_path / "ours")
    again = align.load(tmp_path / "ours")
    for m in ours.modalities:
        inputs = SOUNDS if m == "audio" else TEXTS
        assert (again.embed(**{m: inputs})[m] - ours.embed(**{m: inputs})[m]).abs().max() <= 1e-6
    parts = json.loads((tmp_path / "ours" / "model.json").read_text())["parts"]
    assert set(parts) == {f"{m}.encoder" for m in ours.modalities}
    assert {(p["licence"], p["changed"], len(p["sha256"])) for p in parts.values()} == {("apache-2.0", False, 64)}
    assert again.terms == ours.terms
    assert again.normalize is ours.normalize is not name.startswith("pe-av")
    if ours.terms:
        (term,) = ours.terms
        with torch.no_grad():
            found = term.scale * ours.embed(audio=SOUNDS)["audio"] @ ours.embed(text=TEXTS)["text"].T + term.bias
        audio = ours.preprocess["audio"]
        sounds = library.sounds([audio.decode(x).numpy() for x in SOUNDS], audio.sample_rate)
        assert (found.softmax(1) - library.probabilities(sounds, library.texts(TEXTS))).abs().max() <= 1e-4


KEY_BIAS = "a bias of the keys adds the same to all scores of a query, which the softmax takes away"
EXEMPT = {"key.bias": KEY_BIAS, "k_proj.bias": KEY_BIAS}
SCALES = {"clap-fused": 0.1}
"""Of the tolerance: the attention of the fusion is a small part of its sum, so its tensors count at a tenth."""


@pytest.mark.slow
@pytest.mark.parametrize(  # pe-av-video has the tensors of pe-av
    "name", ["clap-fused", *(pytest.param(x, marks=pytest.mark.sweep) for x in ("clap", "whisper", "ast", "pe-av"))]
)
def test_every_tensor_moves_the_output(name, folders):
    """A tensor that did not would be one that is not read, or read from another place."""
    folder, _ = folders(name)
    ours = load_published(LAYOUTS[name][0], str(folder))
    scale = SCALES.get(name, 1.0)
    unit = (lambda x: normalize(x, dim=-1)) if ours.normalize else (lambda x: x)
    for m in ours.modalities:
        inputs = TEXTS if m == "text" else noises(0.03 if name == "clap-fused" else 0.3)
        preprocess, tower = ours.preprocess[m], ours.towers[m]
        values = preprocess.collate([preprocess.row(x) for x in inputs])
        assert proof.unmoved(tower.encoder, lambda t=tower, v=values: unit(t(v)), EXEMPT, scale) == []


@pytest.mark.parametrize("name", ["clap", "pe-av"])
def test_zeroshot_prints_the_librarys_probabilities(name, folders, tmp_path, capsys, monkeypatch):
    folder, library = folders(name)
    monkeypatch.setenv("ALIGN_CACHE", str(tmp_path / "cache"))
    files = []
    for i, x in enumerate(SOUNDS):
        files.append(tmp_path / f"{i}.flac")
        files[-1].write_bytes(x)
    model = f"{LAYOUTS[name][0]}:{folder}"
    options = ["--modality", "audio", "--classes", "dog,rain", "--template", "{}", "--json"]
    assert main(["zeroshot", model, *options, *map(str, files)]) == 0
    rows = json.loads(capsys.readouterr().out)
    audio = align.load(model).preprocess["audio"]
    sounds = library.sounds([audio.decode(x).numpy() for x in SOUNDS], audio.sample_rate)
    expected = library.probabilities(sounds, library.texts(["dog", "rain"]))
    print(rows)
    for row, (dog, rain) in zip(rows["files"] if isinstance(rows, dict) else rows, expected.tolist(), strict=True):
        assert row["probabilities"]["dog"] == pytest.approx(dog, abs=1e-4)
        assert row["probabilities"]["rain"] == pytest.approx(rain, abs=1e-4)


RECORDINGS = ["007 - Helicopter/1-172649-F.ogg", "008 - Chainsaw/1-116765-A.ogg", "010 - Fire crackling/1-4211-A.ogg"]
"""Whose vectors lie apart in CLAP with random weights too, for which steady noises are much alike."""


@pytest.mark.sweep
@every
def test_published_sizes_on_recordings(name, real_data, tmp_path):
    """The shapes of laion/clap-htsat-unfused and -fused, whisper-tiny, AST and PE-AV, on three recordings of ESC-10."""
    layout, make, options = LAYOUTS[name]
    if name == "pe-av-video":
        pytest.skip("its audio and text are those of pe-av")
    folder = make(tmp_path / "model", whole=True, **options)
    files = [real_data("esc10") / file for file in RECORDINGS]
    for modality, found in check(load_published(layout, str(folder)), Library(folder), files).items():
        print(f"\n{name} {modality}: {found}")
