"""Fourier transforms and frames of ONNX graphs: equal to torch's, of any size, and never in 8 bits."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from align import JointModel, Tower
from align.convert.graphs.fourier import factor, has_tables, make_tables
from align.convert.graphs.graph import prepare, trace
from align.convert.graphs.int8 import FRONT_END, write_int8
from align.convert.graphs.onnx import OPSET, convert
from align.convert.graphs.operators import translations
from align.encoders import SpectrogramCNN
from align.preprocess import Audio


@pytest.mark.parametrize("size", [2, 3, 7, 12, 15, 64, 400, 441])
def test_the_tables_give_the_sum_that_defines_the_transform(size):
    x = np.random.default_rng(0).standard_normal(size)
    (A, B), t = factor(size), make_tables(size, np.float64, scale=0.5)
    assert size == A * B
    assert A >= B
    wide = x.reshape(A, B)
    first = (t.cosine + 1j * t.sine) @ wide * (t.turn_real + 1j * t.turn_imaginary)
    pairs = (first.real @ t.of_real + first.imag @ t.of_imaginary).reshape(-1, 2)[t.place] * t.sign
    for k in range(size // 2 + 1):
        wanted = 0.5 * sum(x[i] * np.exp(-2j * np.pi * i * k / size) for i in range(size))
        np.testing.assert_allclose(pairs[k], [wanted.real, wanted.imag], atol=1e-12)


def test_only_sizes_with_a_large_prime_factor_have_no_tables():
    assert has_tables(1024)
    assert has_tables(1009)  # a prime
    assert has_tables(16_000)
    assert not has_tables(16_001)  # a prime whose table would have 128 million numbers
    assert not has_tables("batch")


class Calls(nn.Module):
    """The same waves through each operator that is written otherwise than torch writes it."""

    def __init__(self, dtype):
        super().__init__()
        self.window = nn.Buffer(torch.hann_window(12, dtype=dtype))

    def forward(self, x):  # (n, T)
        real = torch.view_as_real
        of_stft: Any = {"return_complex": True, "center": False}
        tall = x[:, :36].unflatten(1, (9, 4))
        return (
            real(torch.stft(x, 12, 5, window=self.window, **of_stft)),
            real(torch.stft(x, 12, 8, window=self.window, normalized=True, **of_stft)),
            real(torch.stft(x, 12, 6, win_length=8, window=self.window[:8], **of_stft)),
            real(torch.fft.rfft(tall, 9, dim=-1)),
            real(torch.fft.rfft(tall, norm="ortho")),
            real(torch.fft.rfft(tall, norm="forward")),
            real(torch.fft.rfft(tall, dim=1)),
            x.unfold(1, 7, 3),
            x.unfold(1, 8, 4),
            tall.unfold(1, 3, 2),
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_graphs_transform_as_torch_does(dtype, tmp_path):
    calls, draw = Calls(dtype), torch.Generator().manual_seed(0)
    x = torch.randn(3, 50, dtype=dtype, generator=draw)
    sizes = {0: torch.export.Dim("batch", min=1), 1: torch.export.Dim.DYNAMIC}
    program = torch.export.export(calls, (x,), dynamic_shapes=(sizes,))
    made: Any = torch.onnx.export(
        program, (), dynamo=True, opset_version=OPSET, custom_translation_table=translations(), verbose=False
    )
    made.save(tmp_path / "calls.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "calls.onnx")
    kinds = [node.op_type for node in onnx.load(tmp_path / "calls.onnx").graph.node]
    assert kinds.count("STFT") == 1  # of a window that is shorter than its frame
    assert kinds.count("DFT") == 1  # of another axis than the last
    for n, T in ((3, 50), (1, 50), (2, 41)):
        x = torch.randn(n, T, dtype=dtype, generator=draw)
        found: Any = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        for i, (a, wanted) in enumerate(zip(found, calls(x), strict=True)):
            assert a.shape == wanted.shape, i
            np.testing.assert_allclose(a, wanted, atol=1e-5 if dtype == torch.float32 else 1e-12, err_msg=f"{i}")


def test_8_bits_leave_the_front_end_as_it_is(tmp_path):
    torch.manual_seed(0)
    tower = Tower(Audio(8000, 0.25, n_mels=16), SpectrogramCNN(16, n_mels=16, widths=(8,)))
    traced = trace(prepare(JointModel({"audio": tower}, 8)), "audio")
    convert(traced, tmp_path / "audio.onnx")
    write_int8(traced, tmp_path / "audio.onnx")
    kinds = {}
    for name in ("audio.onnx", "audio.int8.onnx"):
        nodes = onnx.load(tmp_path / name).graph.node
        kinds[name] = [node.op_type for node in nodes if node.name.startswith(FRONT_END)]
        assert "STFT" not in kinds[name]
    assert kinds["audio.onnx"].count("MatMul") == 5  # of the transform, and of the bands
    assert sorted(kinds["audio.int8.onnx"]) == sorted(kinds["audio.onnx"])
    assert any(node.op_type.endswith("Integer") for node in onnx.load(tmp_path / "audio.int8.onnx").graph.node)
