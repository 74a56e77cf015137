"""HFAudio reads each kind as its publisher saved it, padding changes nothing, and what is wrong is said in a line."""

from __future__ import annotations

import json
import shutil

import hf_sounds as models
import pytest
import torch
from safetensors.torch import load_file, save_file

from align import Tower
from align.checkpoint import build, describe
from align.commands import main
from align.encoders import HFAudio
from align.encoders.hf_audio import read_processor
from align.heads import Identity
from align.preprocess import Audio
from align.published import load_published

MAKES = {"clap": models.clap, "whisper": models.whisper, "ast": models.ast, "pe-av": models.pe_av}
every = pytest.mark.parametrize("name", MAKES)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}

    def get(name):
        if name not in made:
            made[name] = MAKES[name](tmp_path_factory.mktemp(name) / "model")
        return made[name]

    return get


def sounds(audio, *seconds):
    draw = torch.Generator().manual_seed(1)
    return [0.2 * torch.randn(round(s * audio.sample_rate), generator=draw).clamp(-4, 4) for s in seconds]


@every
@torch.no_grad()
def test_padding_and_company_change_nothing(name, folders):
    encoder = HFAudio(str(folders(name)), True).eval()
    tower = Tower(encoder=encoder, head=Identity)
    audio = tower.preprocess
    waves = sounds(audio, 0.3, 0.9, 0.004)
    together = tower.features(audio.collate([audio.eval(x) for x in waves]))
    for i, x in enumerate(waves):
        alone = tower.features(audio.collate([audio.eval(x)]))
        assert (alone.pooled[0] - together.pooled[i]).abs().max() <= 5e-5
        if alone.mask is not None:
            real = alone.mask[0]
            length = int(real.sum())
            assert length == int(together.mask[i].sum())
            assert (alone.tokens[0, :length] - together.tokens[i, :length]).abs().max() <= 1e-4
    none = tower.features(audio.collate([]))
    assert none.pooled.shape == (0, encoder.width)


@every
def test_a_transcript_of_it_needs_no_folder(name, folders, tmp_path):
    folder = shutil.copytree(folders(name), tmp_path / "m")
    encoder = HFAudio(str(folder), True, checkpointing=name != "clap")  # which has none
    shutil.rmtree(folder)
    again = build(describe(encoder))
    assert describe(again) == describe(encoder)
    assert again.wants() == encoder.wants()
    assert {n: x.shape for n, x in again.state_dict().items()} == {n: x.shape for n, x in encoder.state_dict().items()}
    audio = Audio(**encoder.wants()["init_args"])
    values = audio.device(audio.collate([audio.eval(x) for x in sounds(audio, 0.3, 0.5)]))
    encoder(values).pooled.sum().backward()
    assert all(p.grad is not None for p in encoder.parameters() if p.requires_grad)


def test_whispers_mean_leaves_the_silence_out(folders):
    encoder = HFAudio(str(folders("whisper")), True).eval()
    audio = Audio(**encoder.wants()["init_args"])
    values = audio.device(audio.collate([audio.eval(x) for x in sounds(audio, 0.105, 31.0)]))
    with torch.no_grad():
        features = encoder(values)
        everything = encoder(values["values"]).pooled
    assert features.mask.sum(1).tolist() == [6, 1500]  # 20 ms each, the last begun
    torch.testing.assert_close(features.pooled[0], features.tokens[0, :6].mean(0))
    torch.testing.assert_close(features.pooled[1], everything[1])
    assert (features.pooled[0] - everything[0]).abs().max() > 1e-3


def processor(folder, **settings):
    path = next(folder / n for n in ("preprocessor_config.json", "processor_config.json") if (folder / n).is_file())
    content = json.loads(path.read_text())
    content.get("feature_extractor", content).update(settings)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("name", "settings", "group", "expected"),
    [
        ("clap", {"frequency_min": 50, "padding": "pad"}, "spectrogram", {"f_min": 50, "f_max": 14000}),
        ("clap", {"padding": "repeat"}, "window", {"pad": "repeat"}),
        ("ast", {"mean": -5.0, "std": 2.0}, "spectrogram", {"mean": -5.0, "std": 4.0}),
        ("ast", {"do_normalize": False}, "spectrogram", {"mean": 0.0, "std": 1.0}),
        ("ast", {"sampling_rate": 32000}, "spectrogram", {"hop": 320, "n_fft": 1024, "f_max": 16000.0}),
        ("pe-av", {"hop_length": 960}, "spectrogram", {"hop": 960}),
    ],
)
def test_a_processors_own_settings_are_read(name, settings, group, expected, folders, tmp_path):
    folder = shutil.copytree(folders(name), tmp_path / "m")
    processor(folder, **settings)
    audio = Audio(**HFAudio(str(folder)).wants()["init_args"])
    assert {key: getattr(getattr(audio, group), key) for key in expected} == expected


def test_a_folder_without_a_processor_takes_the_models_bands(folders, tmp_path):
    folder = shutil.copytree(folders("whisper"), tmp_path / "m")
    (folder / "preprocessor_config.json").unlink()
    assert read_processor(folder) == {}
    assert Audio(**HFAudio(str(folder)).wants()["init_args"]).n_mels == 8


def test_its_names_of_old_are_read(folders, tmp_path):
    """AST as it was published: its layers under other names, in a pickle of tensors."""
    folder = shutil.copytree(folders("ast"), tmp_path / "m")
    tensors = load_file(folder / "model.safetensors")
    assert any(".encoder.layer.0.attention.attention.query.weight" in name for name in tensors)
    torch.save(tensors, folder / "pytorch_model.bin")
    new = HFAudio(str(folder), True)
    (folder / "model.safetensors").unlink()
    old = HFAudio(str(folder), True)
    assert all(torch.equal(x, old.state_dict()[n]) for n, x in new.state_dict().items())
    assert old.origin.source.endswith("pytorch_model.bin")


def broken(folder, change):
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path)
    return folder


def test_weights_that_do_not_fit_are_listed(folders, tmp_path):
    folder = shutil.copytree(folders("ast"), tmp_path / "m")
    key = "audio_spectrogram_transformer.embeddings.cls_token"
    broken(folder, lambda t: {k: x for k, x in t.items() if k != key} | {"more": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"does not fit ASTModel: 1 missing: .*cls_token; 1 unknown: more"):
        HFAudio(str(folder), True)
    shutil.copy(folders("ast") / "model.safetensors", folder)
    broken(folder, lambda t: t | {key: torch.zeros(1, 1, 3)})
    with pytest.raises(ValueError, match=r"1 tensors of another shape: .*cls_token"):
        HFAudio(str(folder), True)


@pytest.mark.parametrize(
    ("layout", "name", "says"),
    [
        ("whisper", "ast", "holds no weights of the layout whisper; its names look like ast"),
        ("ast", "clap", "holds no weights of the layout ast; its names look like clap-hf"),
        ("clap-hf", "pe-av", "holds no weights of the layout clap-hf; its names look like pe-av"),
        ("pe-av", "whisper", "holds no weights of the layout pe-av; its names look like whisper"),
    ],
)
def test_another_layout_is_named(layout, name, says, folders, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["import", layout, str(folders(name)), str(out)]) == 1
    said = capsys.readouterr().err
    assert says in " ".join(said.split())
    assert "Traceback" not in said
    assert not out.exists()


def test_a_truncated_file_writes_nothing(folders, tmp_path, capsys):
    folder = shutil.copytree(folders("ast"), tmp_path / "m")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert main(["import", "ast", str(folder), str(tmp_path / "out")]) == 1
    assert "model.safetensors is damaged" in " ".join(capsys.readouterr().err.split())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m"]


def test_what_the_encoder_cannot_take(folders):
    whisper, clap = HFAudio(str(folders("whisper"))), HFAudio(str(folders("clap")))
    cases = [
        (lambda: Tower(Audio(preset="ast"), whisper), "Audio gives front_end kaldi, HFAudio takes front_end whisper"),
        (lambda: Tower(Audio(preset="clap-fusion"), clap), "gives front_end clap-fusion, HFAudio takes front_end clap"),
        (lambda: Tower(Audio(preset="whisper"), whisper), "Audio gives n_mels 80, HFAudio takes n_mels 8"),
        (lambda: Tower(Audio(preset="clap", sample_rate=44100), clap), "gives sample_rate 44100, .* takes .* 48000"),
        (lambda: whisper(torch.zeros(1, 1, 8, 2000)), "takes windows of 3000 frames, not 2000; leave seconds and hop"),
        (lambda: HFAudio(), "needs the name of a model, or its config"),
        (lambda: HFAudio(config={"model_type": "wisper"}), "did you mean 'whisper'"),
        (lambda: HFAudio(config={"model_type": "bert"}), "no model_type 'bert'; it reads clap, clap_audio_model"),
        (lambda: HFAudio(config=whisper.config, pretrained=True), "pretrained=True needs the name of a model"),
        (lambda: HFAudio(config=whisper.config, preprocess={"n_mels": 80}), "takes n_mels 8, its processor gives 80"),
    ]
    for make, says in cases:
        with pytest.raises(ValueError, match=says) as caught:
            make()
        assert "\n" not in str(caught.value)


def test_another_preset_than_the_weights_want_is_a_warning(folders):
    encoder = HFAudio(str(folders("ast")), True)
    init_args = encoder.wants()["init_args"]
    with pytest.warns(UserWarning, match="were trained with other preprocessing: .*mean=0.0"):
        Tower(Audio(**{**init_args, "mean": 0.0}), encoder)


def test_offline_is_said_in_one_line(capsys):
    assert main(["import", "whisper", "openai/whisper-tiny", "/nowhere"]) == 1
    assert "openai/whisper-tiny is not in the cache, and the hub cannot be reached" in " ".join(
        capsys.readouterr().err.split()
    )


def test_a_published_tower_trains(folders):
    """CLAP's batch normalisation keeps its statistics, and its fusion's parts are reached."""
    model = load_published("clap-hf", str(folders("clap"))).train()
    norm = model.towers["audio"].encoder.model.audio_model.audio_encoder.batch_norm
    before = norm.running_mean.clone()
    audio = model.preprocess["audio"]
    rows = [audio.row((x, 48000), torch.Generator().manual_seed(i)) for i, x in enumerate(sounds(audio, 0.5, 11.0))]
    out = model.towers["audio"](audio.collate(rows), generator=torch.Generator().manual_seed(0))
    (out * torch.randn_like(out)).sum().backward()
    assert torch.equal(norm.running_mean, before)
    assert all(p.grad is not None for p in model.towers["audio"].parameters())
