"""The cost of a step of `align train` against a bare loop with the same encoders, loss and optimiser.

    python tests/benchmarks/step.py      # towers as in configs/digits.yaml, and ViT-S with text
    python tests/benchmarks/step.py --models digits --steps 100 --rounds 5

The batches are in memory on both sides, so neither decodes. The bare loop calls each tower, the loss for each pair,
backward, clips the gradient as ``optim.clip`` says, takes a step of AdamW at a new rate, and clamps the temperature.
``align`` is ``align.lit.fit`` with metrics.csv, without a validation, a checkpoint or a measure of the slice
(`diagnostics.py` prints its cost) in the measured steps. A second row adds TensorBoard's files. The two sides take
turns step by step in one process on one thread: the bare step runs inside the run's last callback, and all CPU time
(``time.process_time``) from there to the next is the run's. A round is a new run. The ratio is that of the sums over a
round, its median over the rounds.

The shares come from one more run, under Lightning's profiler: the hooks of each callback at the steps. They hold the
profiler's cost too, so they are upper bounds. ``data`` is the CPU time of this process in the real loader with one
worker, which decodes in a process of its own: here its pieces are joined.
"""

from __future__ import annotations

import argparse
import io
import itertools
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.profilers import Profiler
from PIL import Image as Picture
from torch import Tensor, nn

from align.data import Loader, Shards, ShardWriter
from align.diagnostics import Diagnose
from align.encoders import ImageCNN, PointNet, SpectrogramCNN, TimmImage, TransformerText
from align.lit import AlignData, Checkpoints, fit
from align.losses import InfoNCE
from align.model import JointModel, Tower
from align.objective import Objective, Term
from align.optim import Optim
from align.preprocess import Audio, Bytes, Image, Points
from align.values import Batch

WARM = 3  # steps before the clock starts
TRAINER = {"accelerator": "cpu", "logger": False}
BATCH = {"digits": 64, "vit": 4}


def model_of(name: str) -> JointModel:
    """Return towers of a size, with the same weights in every call."""
    torch.manual_seed(0)
    text = Tower(Bytes(context=24), TransformerText(context=24, width=64, depth=2))
    if name == "vit":
        vit = TimmImage("vit_small_patch32_224", pretrained=False)
        return JointModel({"image": Tower(Image(size=224), vit), "text": text}, 128)
    sound = Audio(sample_rate=8000, seconds=1.0, n_mels=40, n_fft=256, hop=80, freq_mask=4, time_mask=10)
    return JointModel(
        {
            "image": Tower(Image(size=28), ImageCNN(width=128, widths=[16, 32, 64], stem=2)),
            "audio": Tower(sound, SpectrogramCNN(width=128, n_mels=40, widths=[16, 32, 64])),
            "points": Tower(Points(points=256, preset="absolute"), PointNet(width=128, hidden=[32, 64, 128], bands=3)),
            "text": text,
        },
        64,
    )


def write_shards(folder: Path, samples: int, size: int) -> str:
    """Write shards of noise and return their pattern."""
    draw = np.random.default_rng(0)
    with ShardWriter(folder, "train", per_shard=samples) as writer:
        for i in range(samples):
            picture, cloud, wave = io.BytesIO(), io.BytesIO(), draw.integers(-9000, 9000, 8000, dtype=np.int16)
            Picture.fromarray(draw.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(picture, "PNG")
            np.save(cloud, draw.random((256, 3), dtype=np.float32))
            members = {"image.png": picture.getvalue(), "points.npy": cloud.getvalue(), "text.txt": b"number %d" % i}
            writer.write(f"{i:05d}", members | {"audio.wav": wav(wave)})
    return str(folder / "train-*.tar")


def wav(samples: np.ndarray) -> bytes:
    import wave

    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(samples.tobytes())
    return out.getvalue()


class Held:
    """Loader of batches that are in memory, in turn."""

    batches: ClassVar[list[Batch]] = []  # set by the benchmark

    def __init__(self, *_: Any, start_step: int = 0, steps: int | None = None, **__: Any):
        self.start_step, self.steps, self.waited = start_step, steps or 0, 0.0

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Batch]:
        for step in range(self.start_step, self.start_step + self.steps):
            yield self.batches[step % len(self.batches)]

    def close(self) -> None: ...


class Turns(L.Callback):
    """The last callback of a run, which takes a bare step after each of its steps, and the CPU seconds of both."""

    def __init__(self, bare: Iterator[None]):
        self.bare, self.left = bare, 0.0
        self.seconds: list[tuple[float, float]] = []  # of the run, of the bare loop

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        begin = time.process_time()
        next(self.bare)
        end = time.process_time()
        self.seconds.append((begin - self.left, end - begin))
        self.left = time.process_time()

    @property
    def sums(self) -> tuple[float, float]:
        """CPU seconds of a step of the run, and of the bare loop."""
        measured = self.seconds[WARM:]
        return sum(x for x, _ in measured) / len(measured), sum(x for _, x in measured) / len(measured)


class Spent(Profiler):
    """CPU seconds of each of Lightning's actions after the warm-up."""

    def __init__(self):
        super().__init__()
        self.seconds: dict[str, float] = defaultdict(float)
        self.open: dict[str, float] = {}
        self.ended = 0

    def start(self, action_name: str) -> None:
        self.open[action_name] = time.process_time()

    def stop(self, action_name: str) -> None:
        begin = self.open.pop(action_name, None)
        if action_name == "run_training_batch":
            self.ended += 1
        if begin is not None and self.ended >= WARM and "batch" in action_name and "Turns" not in action_name:
            self.seconds[action_name] += time.process_time() - begin


class Timed:
    """The real loader, with the CPU seconds that it takes of this process."""

    seconds: ClassVar[list[float]] = []  # of each batch

    def __init__(self, *given: Any, **more: Any):
        self.loader = Loader(*given, **more)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        batches = iter(self.loader)
        for _ in range(len(self.loader)):
            begin = time.process_time()
            batch = next(batches)
            self.seconds.append(time.process_time() - begin)
            yield batch


def bare(model: JointModel, batches: list[Batch], steps: int) -> Iterator[None]:
    """Take a step of a plain loop a turn."""
    loss, optim = InfoNCE(), Optim()
    objective = nn.ModuleDict({"pairs": loss})
    optimizer = optim.build(model, objective)
    parameters = [*model.parameters(), *objective.parameters()]
    model.train()
    draws = torch.Generator().manual_seed(0)
    for step in itertools.count():
        for group in optimizer.param_groups:
            group["lr"] = optim.at(min(step, steps), steps)
        batch = batches[step % len(batches)]
        rows = {}
        for name, tower in model.towers.items():
            rows[name] = F.normalize(tower(batch[name].values, generator=draws), dim=1)
        parts: list[Tensor] = []
        for a, b in itertools.combinations(sorted(rows), 2):
            parts.append(loss([rows[a], rows[b]], [batch[a].sample, batch[b].sample]))
        value = torch.stack(parts).sum()
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(parameters, optim.clip)
        optimizer.step()
        loss.clamp_()
        del rows, parts, value
        yield


def aligned(name: str, shards: str, batches: list[Batch], steps: int, workers: int = 0, **trainer: Any) -> Turns:
    """Return the seconds of a run, and of a bare loop between its steps."""
    model = model_of(name)
    terms = {"pairs": Term(InfoNCE(), "all")}
    objective = Objective(terms, dim=model.dim, batch=BATCH[name], modalities=[*model.towers])
    turns = Turns(bare(model_of(name), batches, WARM + steps))
    with tempfile.TemporaryDirectory() as run:
        fit(
            model,
            objective,
            AlignData(shards, None, batch=BATCH[name], workers=workers),
            run,
            optim=Optim(),
            trainer={**TRAINER, "max_steps": WARM + steps, "callbacks": [turns], **trainer},
            checkpoint=Checkpoints(every_minutes=1e9),
            diagnose=Diagnose(every_steps=0),
        )
    return turns


@contextmanager
def in_memory(batches: list[Batch]) -> Iterator[None]:
    """Give runs these batches in place of those that a loader decodes."""
    Held.batches = batches
    with mock.patch("align.lit.loaders.Loader", Held):
        yield


def shares(name: str, shards: str, batches: list[Batch], steps: int) -> list[str]:
    """Return lines of a table: the share of a step that each part of a run takes."""
    rows: dict[str, float] = {}
    step = 0.0
    for log, logger in (("csv", False), ("csv, TensorBoard", True)):
        spent, found = Spent(), defaultdict(float)
        with in_memory(batches):
            step, _ = aligned(name, shards, batches, steps, profiler=spent, logger=logger).sums
        for action, seconds in spent.seconds.items():
            if action.startswith("[Callback]"):
                found[action.removeprefix("[Callback]").split(".")[0].split("{")[0]] += seconds / steps
        rows[f"logging: Log, {log}"] = found.pop("Log", 0.0)
        if not logger:
            rows["all other callbacks"] = sum(found.values())
            rows |= {f"of these {part}": s for part, s in sorted(found.items(), key=lambda item: -item[1])[:4]}
    Timed.seconds = []
    with mock.patch("align.lit.loaders.Loader", Timed):
        aligned(name, shards, batches, max(3, steps // 3), workers=1)
    rows["data: join of the pieces"] = statistics.mean(Timed.seconds[WARM:])
    return [f"| {name} | {part} | {1e3 * s:.3f} | {s / step:.2%} |" for part, s in rows.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["digits", "vit"], choices=["digits", "vit"])
    parser.add_argument(
        "--steps", type=int, default=40, help="measured steps of a round: a multiple of the log's block, 20"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, help="samples of a step")
    parser.add_argument("--no-shares", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    BATCH.update({name: given.batch for name in BATCH if given.batch})
    detail: list[str] = []
    print("| towers | batch | log | bare: CPU ms a step | align: CPU ms a step | ratio |\n|---|---|---|---|---|---|")
    for name in given.models:
        with tempfile.TemporaryDirectory() as folder:
            shards = write_shards(Path(folder), 4 * BATCH[name], 224 if name == "vit" else 28)
            loader = Loader(Shards(shards), model_of(name).preprocess, batch=BATCH[name], train=True, steps=4)
            batches = list(loader)
            for log, logger in (("csv", False), ("csv, TensorBoard", True)):
                with in_memory(batches):
                    found = [
                        aligned(name, shards, batches, given.steps, logger=logger).sums for _ in range(given.rounds)
                    ]
                run, plain = (statistics.median(x) for x in zip(*found, strict=True))
                ratio = statistics.median(x / y for x, y in found)
                row = f"| {name} | {BATCH[name]} | {log} | {1e3 * plain:.2f} | {1e3 * run:.2f} | {ratio:.3f} |"
                print(row, flush=True)
            if not given.no_shares:
                detail += shares(name, shards, batches, given.steps)
    if detail:
        print("\n| towers | part | CPU ms a step | share of a step |\n|---|---|---|---|")
        print("\n".join(detail))


if __name__ == "__main__":
    main()
