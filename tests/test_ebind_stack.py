"""EBind's stack at small sizes: PE-Core's, ImageBind's and Uni3D's classes, caches, heads in two stages, a search."""

import io
import json
import math
from pathlib import Path

import numpy as np
import published_sources
import pytest
import soundfile
import torch
from golden import ebind as golden
from PIL import Image

import align
from align.commands import main
from align.data import ShardWriter

CONFIG = Path(__file__).parent.parent / "configs" / "ebind.yaml"
HEADS = ("audio", "points")
COUNT = 16
pytestmark = [
    pytest.mark.slow,  # 40 s: the imports of four libraries, and every command
    pytest.mark.filterwarnings("ignore:the weights of .* were trained with other preprocessing. tokenizer"),
]
"""The small PE-Core has a tokenizer of a file, which an imported model keeps in its own folder."""


def members(i):
    """A red, green, blue or grey picture of one class in four, with a tone and a cloud as long as its class says."""
    draw, kind = np.random.default_rng(i), i % 4
    picture, sound, cloud = io.BytesIO(), io.BytesIO(), io.BytesIO()
    pixels = draw.integers(0, 60, (32, 32, 3)) + 180 * np.eye(4, 3, dtype=np.int64)[kind]
    Image.fromarray(pixels.astype(np.uint8)).save(picture, "png")
    wave = 0.5 * np.sin(2 * math.pi * 200 * 2**kind * np.arange(16_000) / 16_000) + 0.01 * draw.normal(size=16_000)
    soundfile.write(sound, wave, 16_000, format="WAV")
    points = draw.normal(size=(300, 6)) * [1, 1 + kind, 1, 0, 0, 0] + [0, 0, 0, 0.5, 0.5, 0.5]
    np.save(cloud, points.astype(np.float32))
    about = {"label": {"kind": f"k{kind}"}, "group": kind}
    return {
        "image.png": picture.getvalue(),
        "audio.wav": sound.getvalue(),
        "points.npy": cloud.getvalue(),
        "text.txt": f"kind {kind}".encode(),
        "json": json.dumps(about).encode(),
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The run of configs/ebind.yaml on caches of small models of its classes."""
    root = tmp_path_factory.mktemp("stack")
    for split, numbers in (("groups", range(COUNT)), ("judged", range(COUNT, 2 * COUNT)), ("val", range(50, 58))):
        with ShardWriter(root / "shards", split) as writer:
            for i in numbers:
                writer.write(f"{i:03d}", members(i))
    (root / "weights").mkdir()
    files = golden.write_files(golden.filled(golden.read_notes(), 0), root / "weights")
    sources = {
        "pe_core": (f"open_clip:{published_sources.make_open_clip(root / 'clip')}", "image,text"),
        "imagebind": (f"imagebind:{files['imagebind']}", "audio"),
        "uni3d": (f"uni3d:{files['uni3d']}", "points"),
    }
    shards = [str(path) for path in sorted((root / "shards").glob("*.tar"))]
    for name, (source, towers) in sources.items():
        models = root / "models" / name
        assert main(["import", source, str(models), "--towers", towers]) == 0
        made = ["--out", str(root / "cache"), "--name", name, "--towers", towers, "--features"]
        assert main(["embed", str(models), *shards, *made]) == 0
    columns = {"image": "pe_core", "text": "pe_core", "audio": "imagebind", "points": "uni3d"}
    columns = {m: f"{root}/cache/{name}:{m}" for m, name in columns.items()}
    named = {name: {"shards": f"{name}-*.tar", "columns": columns} for name in ("groups", "judged")}
    val = {"judged": {"shards": "val-*.tar", "columns": columns}}
    stages = {"groups": {"until": 6, "sources": {"groups": 1}}, "judged": {"sources": {"groups": 1, "judged": 1}}}
    widths = {"image": 16, "text": 16, "audio": golden.AUDIO, "points": golden.POINTS}
    options = [f"--model.towers.{m}.encoder.init_args.width={width}" for m, width in widths.items()]
    options += ["--model.dim=16", f"--data.train={json.dumps(named)}", f"--data.val={json.dumps(val)}"]
    options += [f"--stages={json.dumps(stages)}", "--data.batch=8", "--data.workers=0", "--optim.lr=0.01"]
    options += ["--trainer.max_steps=12", "--trainer.val_check_interval=4", "--trainer.precision=32-true"]
    assert main(["train", "--config", str(CONFIG), "--run", str(root / "run"), *options]) == 0
    return root


@pytest.mark.sweep
def test_the_run_has_whole_towers_and_frozen_ones(run):
    model = align.load(run / "run")
    kinds = {m: type(tower.encoder).__name__ for m, tower in model.towers.items()}
    assert kinds == {"image": "OpenClipImage", "text": "OpenClipText", "audio": "ImageBind", "points": "Uni3D"}
    for m, name in (("image", "pe_core"), ("text", "pe_core"), ("audio", "imagebind"), ("points", "uni3d")):
        before = align.load(run / "models" / name).towers[m].encoder.state_dict()
        after = model.towers[m].encoder.state_dict()
        assert all(torch.equal(x, after[key]) for key, x in before.items()), m
    assert all(type(model.towers[m].head).__name__ == "MLP" for m in HEADS)


@pytest.mark.sweep
def test_both_stages_say_every_pairs_recall(run):
    stages = json.loads((run / "run" / "stages.json").read_text())
    said = json.dumps(stages)
    assert all(name in said for name in ("groups", "judged", "audio_to_points", "points_to_text", "image_to_audio"))


@pytest.mark.sweep
def test_a_search_by_embedding_goes_from_sounds_to_points(run, capsys):
    index, sound = str(run / "index"), run / "sound.wav"
    assert main(["index", "build", str(run / "run"), str(run / "shards" / "val-000000.tar"), "--out", index]) == 0
    sound.write_bytes(members(50)["audio.wav"])
    capsys.readouterr()
    assert main(["search", index, "--audio", str(sound), "--of", "points", "--k", "3", "--json"]) == 0
    hits = json.loads(capsys.readouterr().out)["hits"]
    model = align.load(run / "run")
    values = {m: [members(i)[f] for i in range(50, 58)] for m, f in (("audio", "audio.wav"), ("points", "points.npy"))}
    found = model.embed(**values)
    best = (found["audio"][0] @ found["points"].T).argsort(descending=True)[:3] + 50
    assert [hit["key"] for hit in hits] == [f"{int(i):03d}" for i in best]
