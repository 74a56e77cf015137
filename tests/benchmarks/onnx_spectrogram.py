"""Milliseconds of one thread that a front end takes for a row: as products of matrices, by onnxruntime's STFT and DFT,
and by torch. "differ": the largest difference of a band's mean from torch's, by products and by operators.

    OMP_NUM_THREADS=1 python tests/benchmarks/onnx_spectrogram.py
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import onnxruntime
import torch
from torch import Tensor, nn

from align import Features, JointModel, Tower
from align.convert.graphs import onnx
from align.convert.graphs.graph import prepare, trace
from align.convert.graphs.operators import translations
from align.convert.graphs.rows import make_rows
from align.heads import Identity
from align.preprocess import Audio

FRONT_ENDS = {
    "log-mel, n_fft=400, 5 s": Audio(),
    "log-mel, n_fft=512, 5 s": Audio(n_fft=512),
    "whisper, n_fft=400, 30 s": Audio(preset="whisper"),
    "ast, n_fft=512, 10 s": Audio(preset="ast"),
    "clap, n_fft=1024, float64, 10 s": Audio(preset="clap"),
}


class Sums(nn.Module):
    """The mean of each band, which is nearly nothing to compute."""

    width = 64

    def forward(self, values: Tensor | dict[str, Tensor]) -> Features:
        x = values["values"] if isinstance(values, dict) else values
        return Features(x.mean(-1).flatten(1)[:, : self.width])


def best(run: Callable[[], object], rows: int) -> float:
    """Return the fewest of 7 runs' milliseconds a row, of this thread alone."""
    run()
    seconds = []
    for _ in range(7):
        begun = time.thread_time()
        run()
        seconds.append(time.thread_time() - begun)
    return 1000 * min(seconds) / rows


def measure(preprocess: Audio, rows: int, folder: Path) -> tuple[list[float], list[float], int]:
    """Return milliseconds a row of products, of onnxruntime's operators and of torch, what the first two differ from
    torch by, and the bytes that products add.
    """
    traced = trace(prepare(JointModel({"audio": Tower(preprocess, Sums(), Identity)}, Sums.width)), "audio")
    waves = make_rows(preprocess, rows)["values"]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    found, differ, sizes = [], [], []
    with torch.no_grad():
        wanted = traced.graph(waves)
    for table in (translations, dict):
        onnx.translations = table
        onnx.convert(traced, folder / "audio.onnx")
        sizes.append((folder / "audio.onnx").stat().st_size)
        session = onnxruntime.InferenceSession(folder / "audio.onnx", options, providers=["CPUExecutionProvider"])
        given = {"values": waves.numpy()}
        found.append(best(lambda session=session, given=given: session.run(None, given), rows))
        differ.append(float((torch.as_tensor(session.run(None, given)[0]) - wanted).abs().max()))
    with torch.no_grad():
        found.append(best(lambda: traced.graph(waves), rows))
    return found, differ, sizes[0] - sizes[1]


def main() -> None:
    torch.set_num_threads(1)
    print(f"{'ms a row':34}{'rows':>5}{'products':>10}{'operators':>11}{'torch':>8}{'tables':>10}{'differ':>18}")
    with TemporaryDirectory() as folder:
        for name, preprocess in FRONT_ENDS.items():
            for rows in (1, 16):
                (products, operators, eager), differ, size = measure(preprocess, rows, Path(folder))
                times = f"{products:10.1f}{operators:11.1f}{eager:8.1f}{size / 1000:7.0f} kB"
                print(f"{name:34}{rows:5}{times}{differ[0]:9.0e}{differ[1]:9.0e}", flush=True)


if __name__ == "__main__":
    main()
