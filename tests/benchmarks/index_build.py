"""What making an index of small files costs: files per second and memory, of a build, a second build and a change.

    python tests/benchmarks/index_build.py                  # 10,000 pictures of 96 x 96, a small model, no workers
    python tests/benchmarks/index_build.py --files 100000 --workers 2

A quarter of the pictures have a caption, a tenth a json. The model is a small ViT-like pair of towers with random
weights, so the time is that of files, decoding and the index. Each row is one process, and its memory is the peak of
that process; "imports" is a process that loads the model alone. CPU seconds stand beside the wall time.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def write(folder: Path, files: int) -> None:
    from PIL import Image

    draw = np.random.default_rng(0)
    for i in range(files):
        place = folder / f"{i // 500:04d}"
        place.mkdir(parents=True, exist_ok=True)
        file = io.BytesIO()
        small = Image.fromarray(draw.integers(0, 255, (8, 8, 3), dtype=np.uint8))
        small.resize((96, 96)).save(file, "JPEG", quality=85)
        (place / f"{i:06d}.jpg").write_bytes(file.getvalue())
        if i % 4 == 0:
            (place / f"{i:06d}.txt").write_text(f"a picture with the number {i}")
        if i % 10 == 0:
            (place / f"{i:06d}.json").write_text(json.dumps({"label": f"c{i % 7}", "n": i}))


def run(folder: Path, out: Path, workers: int, kind: str) -> None:
    """Build in this process, and print its facts as JSON."""
    import torch

    from align.encoders import ImageCNN, TransformerText
    from align.model import JointModel, Tower
    from align.preprocess import Bytes, Image
    from align.search.building import Work, build_index

    torch.manual_seed(0)
    image = Tower(Image(size=32), ImageCNN(32, widths=(16, 32)))
    text = Tower(Bytes(context=32), TransformerText(259, 32, width=32, depth=1, heads=1))
    model = JointModel({"image": image, "text": text}, 256).eval()
    start, cpu = time.perf_counter(), time.process_time()
    rows = 0
    if kind != "imports":
        report = build_index(model, folder, out, source="benchmark", work=Work(workers=workers))
        rows = sum(report.modalities.values())
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    about = {
        "seconds": time.perf_counter() - start,
        "cpu": time.process_time() - cpu + used.ru_utime + used.ru_stime,
        "rows": rows,
        "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(about))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        run(Path(args.run[0]), Path(args.run[1]), args.workers, args.run[2])
        return
    with tempfile.TemporaryDirectory() as name:
        folder, out = Path(name) / "files", Path(name) / "index"
        write(folder, args.files)
        print(f"{args.files} pictures, {args.workers} workers")
        print(f"{'':12}{'seconds':>10}{'CPU s':>10}{'files/s':>10}{'peak MiB':>10}")
        for kind in ("imports", "build", "unchanged", "one changed"):
            if kind == "one changed":
                next(folder.rglob("*.txt")).write_text("another caption")
            command = [sys.executable, __file__, "--workers", str(args.workers), "--run", str(folder), str(out), kind]
            said = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            speed = "" if kind == "imports" else f"{args.files / said['seconds']:.0f}"
            print(f"{kind:12}{said['seconds']:10.1f}{said['cpu']:10.1f}{speed:>10}{said['mib']:10.0f}")
        size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
        print(f"index: {said['rows']} rows of 256, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
