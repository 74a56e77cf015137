"""Rows of published preprocessing, by its own code. Run by hand, outside CI.

    python tests/golden/presets.py CHECKOUTS            writes presets.safetensors
    python tests/golden/presets.py CHECKOUTS --compare  prints the worst difference of whole rows, more inputs included

CHECKOUTS is a folder with ImageBind (53680b02d7e37b19b124fa37bae4b6c98c38f5be), pytorchvideo (6cdc929315aa, the commit
that ImageBind names), OpenShape_code (abe5aa42b7c9), ULIP (f194ddbfc121), Uni3D (64e03c3c42c1) and omnivore
(1d55abdc8dfc). Functions and classes are taken out of their files one by one, because the files import what no longer
installs. In place of that stand: soundfile for torchaudio.load, an array for decord's reader (one frame a second), an
array for open3d's reader, our evenly spread choice for ``random.sample`` and ``np.random.choice``. ImageBind publishes
no preprocessing of depth. The steps that Omnivore's authors gave (issue 12 of its repository) are written here.
"""

from __future__ import annotations

import ast
import math
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import soundfile
import torch
import torchaudio
import torchvision
from PIL import Image as Pictures
from safetensors.torch import save_file
from torch import Tensor

here = Path(__file__).parent
sys.path[:0] = [str(here.parent), str(here.parent.parent)]

from preset_inputs import (
    SECONDS,
    VIDEOS,
    make_cloud,
    make_depth,
    make_picture,
    make_video,
    make_wave,
    pick,
    real_sounds,
)

from align.preprocess import Audio, Depth, Image, Points, VideoClips
from align.preprocess.points import spread


def take(path: Path, *names: str, **known: Any) -> SimpleNamespace:
    """Return functions and classes of a file, without its imports, in the names that are given."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    future = ast.parse("from __future__ import annotations").body
    body = [node for node in tree.body if getattr(node, "name", None) in names]
    for node in body:
        node.decorator_list = []
    space: dict[str, Any] = {"__name__": path.stem, **known}
    exec(compile(ast.Module([*future, *body], []), str(path), "exec"), space)
    return SimpleNamespace(**{name: space[name] for name in names})


def open_imagebind(root: Path) -> SimpleNamespace:
    video = root / "pytorchvideo" / "pytorchvideo"
    sys.path.insert(0, str(video / "data"))
    from clip_sampling import ConstantClipsPerVideoSampler

    steps = take(
        video / "transforms" / "functional.py", "uniform_temporal_subsample", "short_side_scale", torch=torch, math=math
    )
    scaling = SimpleNamespace(
        ShortSideScale=lambda size: lambda x: steps.short_side_scale(x, size),
        UniformTemporalSubsample=lambda num_samples: lambda x: steps.uniform_temporal_subsample(x, num_samples),
    )

    class Reader:
        def __init__(self, uri: str, **_: Any):
            self.frames = make_video(uri).permute(0, 2, 3, 1)

        def __len__(self) -> int:
            return len(self.frames)

        def get_avg_fps(self) -> float:
            return 1.0

        def get_batch(self, at: list[int]) -> Tensor:
            return self.frames[at]

    decord = SimpleNamespace(VideoReader=Reader, cpu=lambda n: n)
    opened = take(
        video / "data" / "encoded_video_decord.py",
        "EncodedVideoDecord",
        Video=object,
        decord=decord,
        _HAS_DECORD=True,
        math=math,
        torch=torch,
        thwc_to_cthw=lambda x: x.permute(3, 0, 1, 2),
    ).EncodedVideoDecord
    encoded = SimpleNamespace(from_path=lambda path, decoder, **rest: opened(path, path, **rest))

    def load(path: str) -> tuple[Tensor, int]:
        wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
        return torch.from_numpy(wave.T.copy()), rate

    import logging

    return take(
        root / "ImageBind" / "imagebind" / "data.py",
        *("waveform2melspec", "get_clip_timepoints", "load_and_transform_audio_data", "load_and_transform_vision_data"),
        *("crop_boxes", "uniform_crop", "SpatialCrop", "NormalizeVideo", "load_and_transform_video_data"),
        DEFAULT_AUDIO_FRAME_SHIFT_MS=10,
        ConstantClipsPerVideoSampler=ConstantClipsPerVideoSampler,
        EncodedVideo=encoded,
        Image=Pictures,
        logging=logging,
        math=math,
        nn=torch.nn,
        pv_transforms=scaling,
        torch=torch,
        torchaudio=SimpleNamespace(load=load, functional=torchaudio.functional, compliance=torchaudio.compliance),
        transforms=torchvision.transforms,
    )


def audio_rows(reference: SimpleNamespace, folder: Path, real: Path | None) -> Iterator[tuple[str, Tensor, Tensor]]:
    import torchaudio.compliance.kaldi  # noqa: F401

    audio = Audio(preset="imagebind-audio")
    files = {}
    for name in SECONDS:
        wave, rate = make_wave(name)
        files[name] = folder / f"{name}.wav"
        soundfile.write(files[name], wave, rate, subtype="PCM_16")
    files |= {f"real {i}": path for i, path in enumerate(real_sounds(real) if real else [])}
    for name, path in files.items():
        theirs = reference.load_and_transform_audio_data([str(path)], "cpu")[0]
        yield f"audio {name}", theirs, audio.device(audio.collate([audio.row(str(path))]))[0]


def video_rows(reference: SimpleNamespace) -> Iterator[tuple[str, Tensor, Tensor]]:
    video = VideoClips()
    for name in VIDEOS:
        theirs = reference.load_and_transform_video_data([name], "cpu")[0]
        yield f"video {name}", theirs, video.device(video.collate([video.row(make_video(name))]))[0]


def picture_rows(reference: SimpleNamespace, folder: Path) -> Iterator[tuple[str, Tensor, Tensor]]:
    image = Image(preset="imagebind")
    for channels in (3, 4):
        path = folder / f"{channels}.png"
        Pictures.fromarray(make_picture(channels)).save(path)
        theirs = reference.load_and_transform_vision_data([str(path)], "cpu")[0]
        yield f"picture {channels}", theirs, image.device(image.collate([image.row(path)]))[0]


def depth_rows(root: Path) -> Iterator[tuple[str, Tensor, Tensor]]:
    steps = take(root / "omnivore" / "omnivore" / "transforms.py", "DepthNorm", nn=torch.nn, torch=torch)
    disparity = 0.075 * 518.857901 / (make_depth().astype(np.float32) / 1000).clip(0.01, 50)
    x = torch.cat([torch.zeros(3, 224, 224), torch.from_numpy(disparity)[None]]).float()
    x = steps.DepthNorm(max_depth=75.0, clamp_max_before_scale=True)(x)[3:]
    depth = Depth(unit=0.000125)
    theirs = torchvision.transforms.Normalize([0.0418], [0.0295])(x)
    yield "depth", theirs, depth.device(depth.collate([depth.row(make_depth())]))[0]


def openshape(root: Path, cloud: np.ndarray, y_up: bool) -> Tensor:
    steps = take(root / "OpenShape_code" / "src" / "utils" / "data.py", "normalize_pc", np=np)

    def drawn(population: range, count: int) -> list[int]:
        return spread(len(population), count).tolist()

    file = SimpleNamespace(points=cloud[:, :3].astype(np.float64), colors=cloud[:, 3:].astype(np.float64))
    load_ply = take(
        root / "OpenShape_code" / "src" / "example.py",
        "load_ply",
        ME=SimpleNamespace(utils=SimpleNamespace(batched_coordinates=lambda *a, **k: None)),
        np=np,
        torch=torch,
        o3d=SimpleNamespace(io=SimpleNamespace(read_point_cloud=lambda path: file)),
        random=SimpleNamespace(sample=drawn),
        normalize_pc=steps.normalize_pc,
    ).load_ply
    return load_ply("", y_up=y_up)[1]


def openshape_grey(root: Path, cloud: np.ndarray) -> Tensor:
    steps = take(root / "OpenShape_code" / "src" / "utils" / "data.py", "normalize_pc", np=np)
    fixed = SimpleNamespace(**vars(np))
    fixed.random = SimpleNamespace(choice=lambda n, count: spread(n, count).numpy())
    import copy

    made = take(
        root / "OpenShape_code" / "src" / "data.py",
        "ScanObjectNNTest",
        Dataset=object,
        np=fixed,
        torch=torch,
        copy=copy,
        normalize_pc=steps.normalize_pc,
    ).ScanObjectNNTest
    test = made.__new__(made)
    test.data = {"xyz": [cloud[:, :3].astype(np.float64)], "label": [0]}
    test.num_points, test.y_up, test.use_color = 10_000, True, True
    return test[0]["features"]


def ulip2(root: Path, cloud: np.ndarray, folder: Path) -> Tensor:
    made = take(
        root / "ULIP" / "data" / "dataset_3d.py",
        "Objaverse_Lvis_Colored",
        data=SimpleNamespace(Dataset=object),
        np=np,
        os=os,
        torch=torch,
    ).Objaverse_Lvis_Colored
    test = made.__new__(made)
    np.save(folder / "u.npy", {"xyz": cloud[:, :3], "rgb": cloud[:, 3:]}, allow_pickle=True)  # type: ignore[arg-type]
    test.file_list, test.npy_file_map, test.objaverse_lvis_path = ["u"], {"u": "u.npy"}, str(folder)
    test.use_color, test.use_height = True, False
    test.lvis_metadata = {"value_to_key_mapping": {"u": "x"}, "key_to_id": {"x": 0}}
    return test[0][0]


def uni3d(root: Path, cloud: np.ndarray, folder: Path) -> Tensor:
    made = take(
        root / "Uni3D" / "data" / "datasets.py",
        "Objaverse_lvis_openshape",
        data=SimpleNamespace(Dataset=object),
        np=np,
        torch=torch,
    ).Objaverse_lvis_openshape
    test = made.__new__(made)
    np.save(folder / "v.npy", {"xyz": cloud[:, :3], "rgb": cloud[:, 3:]}, allow_pickle=True)  # type: ignore[arg-type]
    test.file_list = [{"cate_id": 0, "cate_name": "x", "model_id": "x", "point_path": str(folder / "v.npy")}]
    test.openshape_setting, test.augment, test.use_height = False, False, False
    xyz, _, _, rgb = test[0]
    return torch.cat([xyz, torch.from_numpy(rgb)], 1)


def cloud_rows(root: Path, folder: Path, seeds: range) -> Iterator[tuple[str, Tensor, Tensor]]:
    named = {"openshape": Points(preset="openshape"), "openshape demo": Points(preset="openshape", swap=False)}
    for seed in seeds:
        even, more = make_cloud(10_000, seed=seed), make_cloud(13_001, seed=seed)
        for size, cloud in (("even", even), ("more", more)):
            for name, points in named.items():
                yield f"{name} {size} {seed}", openshape(root, cloud, "demo" not in name), points.row(cloud)
        bare, points = make_cloud(20_000, 3, seed), named["openshape"]
        yield f"openshape grey {seed}", openshape_grey(root, bare), points.row(bare)
        yield f"ulip2 {seed}", ulip2(root, even, folder), Points(preset="ulip2").row(even)
        yield f"uni3d {seed}", uni3d(root, even, folder), Points(preset="uni3d").row(even)


def main(root: Path, compare: bool) -> None:
    random.seed(0)
    data = Path(os.environ.get("ALIGN_DATA", "data")) / "esc10"
    real = data if data.is_dir() else None
    reference, kept, worst = open_imagebind(root), {}, {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [*audio_rows(reference, folder, real), *video_rows(reference), *picture_rows(reference, folder)]
        rows += [*depth_rows(root), *cloud_rows(root, folder, range(5 if compare else 1))]
    for name, theirs, ours in rows:
        assert theirs.shape == ours.shape, (name, theirs.shape, ours.shape)
        difference = float((theirs.double() - ours.double()).abs().max())
        kind = " ".join(part for part in name.split() if not part.isdecimal())
        worst[kind] = max(worst.get(kind, 0.0), difference)
        kept[name.replace(" ", ".")] = pick(theirs)
    for kind, difference in worst.items():
        print(f"{kind}: {difference:.1e}")
    if not compare:
        save_file(kept, here / "presets.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), "--compare" in sys.argv)
