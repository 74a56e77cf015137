"""LAION's CLAP beside its own code: ``python tests/golden/laion_clap.py CHECKOUT [OPTION]``.

CHECKOUT: LAION-AI/CLAP at 1fd4c37, with torchlibrosa and librosa installed. Writes laion_clap.safetensors beside this
file. --compare: other seeds and other fills of single tensors. --whole: the published sizes. --port: transformers'
CLAP with the same weights. --keys: the lists of tensors of the published files.

Constants are as the code makes them: Fourier matrices, mel bands, relative positions, masks. The statistics of the
first normalisation are moved to those of decibels (mean -30, variance 300 and more).
Patched: random draws become the middle of their range, ``numpy.random.integers``, which numpy does not have, is given,
and the spectrogram is shrunk without smoothing, as by the torchvision 0.13 of the training.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

HERE = Path(__file__).parent
sys.path.insert(1, str(HERE.parent))

from faint import make_faint
from fill import fill_named

RATE, WORDS, DIM = 48000, 600, 16
SEED = 3  # of the file; with 0 the fusion's two channels over all places are dead
TINY = {"embed_dim": 8, "depths": [2, 1, 1, 2], "num_heads": [1, 2, 2, 4]}
TEXT = {"vocab_size": WORDS, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 1}
TEXT |= {"intermediate_size": 96, "max_position_embeddings": 90, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
FIXED = ("relative_position_index", "attn_mask", "position_ids", "token_type_ids", "num_batches_tracked", "melW")
FIXED += ("conv_real.weight", "conv_imag.weight")
RECORDINGS = ["001 - Dog bark/1-100032-A.ogg", "002 - Rain/1-17367-A.ogg", "009 - Rooster/1-26806-A.ogg"]
EVERY = slice(None, None, 8), slice(None, None, 100)  # bands and frames of a spectrogram that the file keeps


def fill_published(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    """Return weights under published names, without the constants of ``FIXED``."""
    found = fill_named({k: s for k, s in shapes.items() if not k.endswith(FIXED)}, seed)
    found["audio_branch.bn0.running_mean"] = 100 * found["audio_branch.bn0.running_mean"] - 30
    found["audio_branch.bn0.running_var"] *= 300
    return found


def make_waves(seed: int) -> list[np.ndarray]:
    """Return three mono waves of 0.7, 10.3 and 23 s at 48 kHz: sweeps with noise, of different levels."""
    draw, waves = np.random.default_rng(seed), []
    for seconds, level in ((0.7, 0.1), (10.3, 0.9), (23.0, 0.3)):
        t = np.arange(round(seconds * RATE)) / RATE
        pitch, beat, noise = draw.uniform(100, 3000), draw.uniform(0.5, 6), draw.uniform(0.01, 0.3)
        sound = np.sin(2 * np.pi * pitch * t * (1 + 0.3 * np.sin(beat * t))) * np.sin(beat * t) ** 2
        sound += noise * draw.normal(size=len(t)) * (1 + np.cos(3 * beat * t))
        waves.append((level * sound / np.abs(sound).max()).astype(np.float32))
    return waves


def make_ids(seed: int) -> Tensor:
    """Return (3, 77) ids of texts of different lengths, begun by 0, ended by 2 and padded by 1."""
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(4, WORDS, (3, 77), generator=draw)
    ids[:, 0] = 0
    for row, length in enumerate((4, 21, 77)):
        ids[row, length - 1], ids[row, length:] = 2, 1
    return ids


def data_folder() -> Path:
    return Path(os.environ["ALIGN_DATA"]) / "esc10"


def read_recordings(folder: Path) -> list[np.ndarray]:
    """Return three recordings of ESC-10 at 48 kHz, as we resample them: 5 s, and 25 s and 12 s of it repeated."""
    from align.preprocess import Audio

    audio = Audio(preset="laion-clap")
    made = [audio.decode(folder / file).numpy() for file in RECORDINGS]
    return [made[0], np.tile(made[1], 5), np.tile(made[2], 3)[: 12 * RATE]]


# --- the reference, outside of this repository ---


def import_reference(checkout: Path) -> SimpleNamespace:
    """Return modules of the checkout. What only training needs is stubbed."""
    import torchvision  # noqa: F401  # before the stubs, which torch would ask for their files
    import transformers

    sys.path.insert(0, str(checkout / "src" / "laion_clap"))
    for name in ("h5py", "braceexpand", "webdataset", "wget", "pandas", "progressbar", "ftfy"):
        try:
            __import__(name)
        except ImportError:
            sys.modules[name] = ModuleType(name)
    kinds = ("BertTokenizer", "RobertaTokenizer", "BartTokenizer")
    patches = [patch.object(getattr(transformers, k), "from_pretrained", lambda *_: None) for k in kinds]
    for one in patches:
        one.start()
    package = ModuleType("training")
    package.__path__ = [str(checkout / "src" / "laion_clap" / "training")]  # past its __init__
    sys.modules["training"] = package
    import clap_module.htsat as htsat  # pyright: ignore[reportMissingImports]
    import clap_module.model as model  # pyright: ignore[reportMissingImports]
    import training.data as data  # pyright: ignore[reportMissingImports]

    for one in patches:
        one.stop()
    return SimpleNamespace(model=model, data=data, htsat=htsat)


def make_reference(ref: SimpleNamespace, fusion: bool, size: str = "small") -> nn.Module:
    """Return LAION's CLAP. size: "small", or "tiny" or "base" with roberta-base, as published."""
    from transformers import RobertaConfig, RobertaModel

    names = {"audio_length": 1024, "clip_samples": 480000, "mel_bins": 64, "sample_rate": RATE, "window_size": 1024}
    names |= {"hop_size": 480, "fmin": 50, "fmax": 14000, "class_num": 527 if size != "small" else 7}
    audio = ref.model.CLAPAudioCfp(**names, model_type="HTSAT", model_name=size)
    text = ref.model.CLAPTextCfg(
        context_length=77, vocab_size=49408, width=512, heads=8, layers=12, model_type="roberta"
    )
    published = {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
    config = RobertaConfig(**(TEXT if size == "small" else published))
    options = {"enable_fusion": fusion, "fusion_type": "aff_2d" if fusion else "None"}

    def small(cfg: Any, *_: Any) -> nn.Module:
        return ref.htsat.HTSAT_Swin_Transformer(256, 4, (4, 4), 1, 7, **TINY, window_size=8, config=cfg, **options)

    make_audio = small if size == "small" else ref.model.create_htsat_model
    with (
        patch.object(RobertaModel, "from_pretrained", lambda *_: RobertaModel(config)),
        patch.object(ref.model, "create_htsat_model", make_audio),
    ):
        width, dim = (64, DIM) if size == "small" else ({"tiny": 768, "base": 1024}[size], 512)
        made = ref.model.CLAP(width, audio, text, **options, joint_embed_shape=dim)
    if size == "small":
        made.text_projection[0] = nn.Linear(64, DIM)
    return made.eval()


def set_weights(model: nn.Module, seed: int) -> dict[str, Tensor]:
    """Fill a reference, and return its whole state dict."""
    made = model.state_dict()  # with the constants, which stay
    model.load_state_dict(made | fill_published({k: tuple(x.shape) for k, x in made.items()}, seed))
    return model.state_dict()


def hear(
    ref: SimpleNamespace, model: Any, waves: list[np.ndarray], fusion: bool, smooth: bool = False
) -> tuple[Tensor, list[Tensor]]:
    """Return (n, DIM) unit vectors of waves at 48 kHz, each alone, by LAION's ``get_audio_embedding_from_data``.

    Also its spectrograms, (1 or 4, frames, bands) each. smooth: as torchvision shrinks since 0.17.
    """
    from torchvision.transforms import Resize

    names = {"mel_bins": 64, "sample_rate": RATE, "window_size": 1024, "hop_size": 480, "fmin": 50, "fmax": 14000}
    rows, mels = [], []
    with (
        patch("numpy.random.integers", lambda low, high: (high - low) // 2, create=True),
        patch("numpy.random.choice", lambda places: places[len(places) // 2]),
        patch("torchvision.transforms.Resize", lambda size: Resize(size, antialias=smooth)),
        torch.no_grad(),
    ):
        for wave in waves:
            kept = ref.data.int16_to_float32(ref.data.float32_to_int16(wave))
            kind = "fusion" if fusion else "rand_trunc"
            made = ref.data.get_audio_features({}, torch.from_numpy(kept), 480000, kind, "repeatpad", names)
            rows.append(model.get_audio_embedding([made]))
            branch = model.audio_branch
            if not fusion:
                mels.append(branch.logmel_extractor(branch.spectrogram_extractor(made["waveform"][None]))[0])
            else:
                mels.append(made["mel_fusion"])
    return torch.cat(rows), mels


@torch.no_grad()
def read(model: Any, ids: Tensor) -> Tensor:
    """Return (n, DIM) unit vectors of ids."""
    return model.get_text_embedding({"input_ids": ids, "attention_mask": (ids != 1).long()})


# --- the published file, and what is made of it ---


def write_published(state: dict[str, Tensor], path: Path) -> Path:
    """Write a checkpoint as LAION's training saved it: inside DistributedDataParallel, beside an optimiser's state."""
    whole = {f"module.{name}": x for name, x in state.items()}
    moment = {"step": 3, "exp_avg": torch.zeros(2), "exp_avg_sq": torch.zeros(2)}
    optimizer = {"state": {0: moment}, "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.99), "params": [0]}]}
    position = torch.arange(len(whole["module.text_branch.embeddings.position_embeddings.weight"]))[None]
    whole["module.text_branch.embeddings.position_ids"] = position  # of transformers before 4.31
    torch.save({"epoch": 15, "name": "2023_CLAP", "optimizer": optimizer, "state_dict": whole}, path)
    return path


def write_goldens(ref: SimpleNamespace, seed: int = SEED) -> None:
    """Write the file of goldens: outputs, and a few values of the spectrograms."""
    from safetensors.torch import save_file

    recordings = read_recordings(data_folder())
    kept: dict[str, Tensor] = {}
    for name, fusion in {"unfused": False, "fused": True}.items():
        model = make_reference(ref, fusion)
        set_weights(model, seed)
        kept[f"{name}.waves"], mels = hear(ref, model, make_waves(seed), fusion)
        kept[f"{name}.recordings"], _ = hear(ref, model, recordings, fusion)
        for i, mel in enumerate(mels):
            kept[f"{name}.mel{i}"] = mel.mT[:, *EVERY].contiguous()
        if not fusion:
            kept["texts"] = read(model, make_ids(seed))
        model.load_state_dict(make_faint(model.state_dict()))
        kept[f"{name}.faint"], _ = hear(ref, model, make_waves(seed), fusion)
        if not fusion:
            kept["texts.faint"] = read(model, make_ids(seed))
    save_file(kept, HERE / "laion_clap.safetensors")
    print({name: tuple(x.shape) for name, x in kept.items()})


def write_keys(ref: SimpleNamespace) -> None:
    """Write the lists of tensors of the published files, and of the small configuration."""
    from keys import condense

    for name in ("tiny", "tiny-fusion", "base", "small", "small-fusion"):
        size, _, fusion = name.partition("-")
        model = make_reference(ref, bool(fusion), size)
        shapes = {k: tuple(x.shape) for k, x in model.state_dict().items()}
        table = shapes["text_branch.embeddings.position_embeddings.weight"]
        shapes["text_branch.embeddings.position_ids"] = (1, table[0])
        (HERE / f"laion_clap-{name}.keys").write_text(condense(shapes))


if __name__ == "__main__":
    reference = import_reference(Path(sys.argv[1]))
    if "--keys" in sys.argv:
        write_keys(reference)
    elif kind := [x for x in sys.argv if x in ("--compare", "--whole", "--port")]:
        import laion_clap_compare as compare
        import laion_clap_port

        run = {"--compare": compare.run, "--whole": compare.run_whole, "--port": laion_clap_port.run}[kind[0]]
        for fused in (False, True):
            run(reference, read_recordings(data_folder()), fused)
    else:
        write_goldens(reference)
