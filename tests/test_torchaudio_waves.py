"""TorchaudioWaves gives what torchaudio's own model gives each sound alone, whatever stands beside it."""

from __future__ import annotations

import pytest
import torch
from fill import fill
from test_encoders import base, large, wav2vec, wavlm
from torch.nn.functional import layer_norm

from align.checkpoint import build, describe
from align.encoders import TorchaudioWaves
from align.encoders.torchaudio_model import RENAMED, find_bundle
from align.preprocess import Audio

KINDS = {
    "WAV2VEC2_BASE": {**wav2vec, **base},
    "HUBERT_LARGE": {**wav2vec, **large},
    "WAVLM_BASE_PLUS": {**wav2vec, **base, **wavlm},
    "WAVLM_LARGE": {**wav2vec, **large, **wavlm},
}
every = pytest.mark.parametrize("name", KINDS)


def theirs(encoder, wave, layer):
    """The library's last tokens of one sound alone, as its bundle's own model gives them."""
    x = wave[None]
    if find_bundle(encoder.name)._normalize_waveform:
        x = layer_norm(x, x.shape)
    if layer is None:
        return encoder.model(x)[0][0]
    return encoder.model.extract_features(x, num_layers=layer)[0][-1][0]


@every
@pytest.mark.parametrize("layer", [None, 1])
@torch.no_grad()
def test_each_sound_is_the_librarys_alone(name, layer):
    encoder = TorchaudioWaves(name, layer=layer, config=KINDS[name]).eval()
    fill(encoder.model)
    audio = Audio(**encoder.wants()["init_args"])
    draw = torch.Generator().manual_seed(0)
    waves = [0.1 + 0.3 * torch.randn(n, generator=draw).clamp(-3, 3) for n in (30_000, 4_001, 500, 12_345)]
    pooled, tokens, mask = encoder(audio.device(audio.collate([audio.eval(x) for x in waves])))
    for i, x in enumerate(waves):
        expected = theirs(encoder, x.clamp(-1, 1), layer)
        length = int(mask[i].sum())
        assert length == len(expected)
        assert (tokens[i, :length] - expected).abs().max() <= 1e-4
        assert (pooled[i] - expected.mean(0)).abs().max() <= 1e-5
    apart = (pooled[:, None] - pooled[None]).abs().amax(-1)
    assert apart[~torch.eye(4, dtype=torch.bool)].min() >= 1e-2


def test_published_files_are_read(tmp_path):
    """Files have torch's older names of weight normalisation, and the layers that were trained beside."""
    config = KINDS["WAV2VEC2_BASE"]
    source = TorchaudioWaves("WAV2VEC2_BASE", config=config)
    fill(source.model)
    old = {new: name for name, new in RENAMED.items()}
    tensors = {}
    for name, x in source.model.state_dict().items():
        end = next((new for new in old if name.endswith(new)), "")
        tensors[name.removesuffix(end) + old.get(end, "")] = x
    assert any(name.endswith("conv.weight_g") for name in tensors)
    path = tmp_path / "published.pth"
    torch.save(tensors | {"aux.weight": torch.zeros(3, 16), "aux.bias": torch.zeros(3)}, path)
    read = TorchaudioWaves("WAV2VEC2_BASE", str(path), config=config)
    assert all(torch.equal(x, read.state_dict()[n]) for n, x in source.state_dict().items())
    assert (read.origin.source, read.origin.licence, len(read.origin.sha256)) == (str(path), "unstated", 64)
    first = TorchaudioWaves("WAV2VEC2_BASE", str(path), layer=1, config=config)
    assert len(first.model.encoder.transformer.layers) == 1
    again = build(describe(first))
    assert describe(again) == describe(first)
    assert set(again.state_dict()) == set(first.state_dict())
    torch.save({k: x for k, x in tensors.items() if "layer_norm" not in k}, path)
    with pytest.raises(ValueError, match=r"does not fit the model: .* missing: feature_extractor"):
        TorchaudioWaves("WAV2VEC2_BASE", str(path), config=config)


def test_its_weights_offline_are_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("ALIGN_CACHE", str(tmp_path))

    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr("align.encoders.torchaudio_model.download", refuse)
    with pytest.raises(
        FileNotFoundError, match=r"wav2vec2_fairseq_base_ls960.pth cannot be fetched \(no network\): go"
    ):
        TorchaudioWaves("WAV2VEC2_BASE", True, config=KINDS["WAV2VEC2_BASE"])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: TorchaudioWaves("WAV2VEC_BASE"), "no bundle 'WAV2VEC_BASE'; did you mean 'WAV2VEC2_BASE'"),
        (lambda: TorchaudioWaves("mel"), "the bundles are WAV2VEC2_BASE, "),
        (
            lambda: TorchaudioWaves(layer=3, config=KINDS["WAV2VEC2_BASE"]),
            "layer=3: WAV2VEC2_BASE has the layers 1 to 2",
        ),
        (lambda: TorchaudioWaves(config={"width": 3}), "wav2vec2_model takes no such config"),
    ],
)
def test_errors_say_what_came(make, says):
    with pytest.raises(ValueError, match=says) as caught:
        make()
    assert "\n" not in str(caught.value)
