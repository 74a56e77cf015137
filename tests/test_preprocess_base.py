"""What every preprocess promises: light to import, said by its arguments, picklable, and n = 0 of the right shape."""

from __future__ import annotations

import io
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser

import align.preprocess
from align.checkpoint import describe
from align.preprocess import Array, Audio, Bytes, Depth, Image, Names, Points, Preprocess, Signal, Tokens, VideoClips


def npy(*shape: int) -> bytes:
    file = io.BytesIO()
    np.save(file, np.random.default_rng(0).random(shape).astype(np.float32))
    return file.getvalue()


ALL = [
    (Image(16), np.zeros((20, 30, 3), np.uint8), torch.uint8, (3, 16, 16)),
    (Audio(8000, seconds=0.5, n_fft=512), np.zeros(900, np.float32), torch.int16, (4000,)),
    (Points(32), npy(50, 6), torch.float32, (32, 6)),
    (Tokens(8), b"a blue cone", torch.int64, (8,)),
    (Bytes(8), b"a blue cone", torch.int64, (8,)),
    (Array((2, 3)), npy(2, 3), torch.float32, (2, 3)),
    (Array((2, 3), missing=True, mean=[0.5, 1], std=2), npy(2, 3), torch.float32, (2, 3)),
    (Depth(16), np.full((20, 30), 900, np.uint16), torch.float32, (1, 16, 16)),
    (VideoClips(size=16), np.zeros((3, 20, 30, 3), np.uint8), torch.uint16, (15, 3, 2, 16, 16)),
    (Names(["cone", "light blue", "cube"]), b"a Blue cone", torch.float32, (3,)),
    (Signal(2, 16, mean=0.5, std=[1, 2]), npy(2, 40), torch.float32, (2, 16)),
]
every = pytest.mark.parametrize(("preprocess", "source", "dtype", "shape"), ALL, ids=[repr(p[0])[:20] for p in ALL])


def test_all_are_here():
    """ConceptTexts, which reads a file, and those whose values are a dict keep the contract in tests of their own."""
    here = {type(preprocess).__name__ for preprocess, *_ in ALL}
    others = {"Boxes", "ConceptTexts", "FeatureTokens", "HFTokens", "Interleaved", "Preprocess", "Video"}
    assert here | others == set(align.preprocess.__all__)


@every
def test_the_contract(preprocess, source, dtype, shape):
    generator = torch.Generator().manual_seed(0)
    x = preprocess.decode(source)
    rows = [preprocess.eval(x), preprocess.train(x, generator), preprocess.eval(preprocess.decode(source))]
    assert torch.equal(rows[0], rows[2])
    for n in (0, 1, 3):
        values = preprocess.collate(rows[:n])
        assert values.shape == (n, *shape)
        assert values.dtype == dtype
        assert len(preprocess.device(values)) == n
        assert preprocess.device(values).shape[1:] == preprocess.device(preprocess.collate(rows)).shape[1:]
    joined = torch.cat([preprocess.collate(rows[:1]), preprocess.collate([]), preprocess.collate(rows[1:])])
    assert torch.equal(joined, preprocess.collate(rows))


@every
def test_training_leaves_the_global_generator_alone(preprocess, source, dtype, shape):
    before = torch.get_rng_state()
    values = preprocess.collate([preprocess.train(preprocess.decode(source), torch.Generator().manual_seed(0))])
    preprocess.device(values, torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), before)


@every
def test_arguments_are_attributes_that_json_can_say(preprocess, source, dtype, shape):
    said = json.loads(json.dumps(describe(preprocess)["init_args"]))
    again = type(preprocess)(**said)
    assert repr(again).replace("[", "(").replace("]", ")") == repr(preprocess)
    x = preprocess.decode(source)
    copy = pickle.loads(pickle.dumps(preprocess))
    for other in (again, copy):
        assert torch.equal(other.eval(other.decode(source)), preprocess.eval(x))


@every
def test_yaml_says_it(preprocess, source, dtype, shape):
    said = json.loads(json.dumps(describe(preprocess)["init_args"]))
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--p", type=Preprocess)
    config = {"class_path": f"align.preprocess.{type(preprocess).__name__}", "init_args": said}
    instantiate = getattr(parser, "instantiate", None) or parser.instantiate_classes  # its name until 4.48
    made = instantiate(parser.parse_object({"p": config})).p
    assert repr(made).replace("[", "(").replace("]", ")") == repr(preprocess)


@pytest.mark.slow
def test_importing_and_making_load_no_heavy_library():
    code = (
        "import sys, align.preprocess as p; p.Image(); p.Audio(); p.Points(); p.Tokens(); p.Bytes(); p.Array((2,));"
        "print([m for m in ('PIL', 'torchaudio', 'torchvision', 'soundfile', 'trimesh', 'open_clip', 'timm')"
        " if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
