"""Videos in the commands, in an index, on the server and beside a published image tower."""

from __future__ import annotations

import csv
import json
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import PIL.Image
import pytest
import torch
from browsing import chromium, until
from published_sources import make_open_clip
from served import serving
from test_commands_use import run
from videos import write_video

from align import JointModel, Tower, load, save
from align.encoders import OpenClipImage, VideoFrames
from align.heads import Identity, Linear
from align.model.video import with_videos
from align.preprocess import Bytes, Image, Video
from align.search.local import LocalIndex
from align.search.searcher import Searcher
from align.serve.limits import Limits
from align.serve.loaded import Loaded
from align.serve.page.space import Space
from align.values import Features, Origin, TermInfo

COLOURS = {"red": (230, 30, 30), "green": (30, 220, 30), "blue": (30, 30, 230)}
D = 8


class Colour(torch.nn.Module):
    """An image encoder: the mean colour, then zeros."""

    width = D

    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(1))

    def forward(self, values):
        return Features(torch.nn.functional.pad(values.mean((2, 3)), (0, D - 3)) * self.gain)


class Named(torch.nn.Module):
    """A text encoder: one of COLOURS that the text names, by a letter of each (d, n and b)."""

    width = D

    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(1))

    def forward(self, values):
        letters = torch.tensor([ord(letter) + 3 for letter in "dnb"])  # Bytes adds 3
        rows = (values[:, :, None] == letters).any(1).float()
        return Features(torch.nn.functional.pad(rows, (0, D - 3)) * self.gain)


def film(colour, codec="mpeg4", format="mp4"):
    frame = np.full((48, 64, 3), COLOURS[colour], np.uint8)
    frame[:8, :8] = 255
    return write_video(format, codec, frames=8, fps=4, pictures=[frame] * 8)


def make_model():
    pictures = {"size": 8, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    towers = {
        "image": Tower(Image(**pictures), VideoFrames(Colour()), Identity),
        "video": Tower(Video(2, **pictures), None, Identity),
        "text": Tower(Bytes(32), Named(), Identity),
    }
    made = JointModel(towers, D, {"video": "image"}).eval()
    made.terms = [TermInfo(("video", "text"), "pairwise", 10.0), TermInfo(("image", "text"), "pairwise", 10.0)]
    return made


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a model and films/COLOUR/NAME.mp4, one of each colour in two codecs, and a broken file."""
    folder = tmp_path_factory.mktemp("videos")
    save(make_model(), folder / "model")
    for colour in COLOURS:
        (folder / "films" / colour).mkdir(parents=True)
        (folder / "films" / colour / f"{colour}1.mp4").write_bytes(film(colour))
        (folder / "films" / colour / f"{colour}2.webm").write_bytes(film(colour, "libvpx", "webm"))
    return folder


trust = ["--allow", "test_video_everywhere"]


def test_zeroshot_labels_videos(place, capsys):
    files = sorted((place / "films").rglob("*.*"))
    code, out, err = run(capsys, "zeroshot", place / "model", *files, "--classes", "red,green,blue", "--json", *trust)
    assert code == 0, err
    rows = json.loads(out)["files"]
    assert [row["modality"] for row in rows] == ["video"] * 6
    assert [row["class"] for row in rows] == [file.parent.name for file in files]


def test_zeroshot_names_the_way_for_a_model_of_images(place, tmp_path, capsys):
    pictures = Tower(Image(size=8), Colour(), Identity)
    save(JointModel({"image": pictures, "text": Tower(Bytes(32), Named(), Identity)}, D), tmp_path / "m")
    film = place / "films" / "red" / "red1.mp4"
    code, _, err = run(capsys, "zeroshot", tmp_path / "m", film, "--classes", "red,blue", *trust)
    assert code == 1
    assert "no tower reads videos; `align import LAYOUT SOURCE OUT --video unit-mean`" in err
    assert len(err.strip().splitlines()) == 1


def test_an_index_of_a_folder_of_videos_is_searched_by_words_videos_and_pictures(place, tmp_path, capsys):
    (place / "films" / "red" / "broken.mp4").write_bytes(film("red")[:400])
    index = tmp_path / "index"
    code, out, err = run(
        capsys, "index", "build", place / "model", place / "films", "--out", index, "--max-bad", 1, *trust
    )
    assert code == 0, err
    assert "video/truncated" in out + err
    (place / "films" / "red" / "broken.mp4").unlink()
    with LocalIndex.open(index) as opened:
        assert opened.count("video") == 6
    for asked in (["--text", "blue"], ["--video", place / "films" / "blue" / "blue1.mp4"]):
        code, out, err = run(capsys, "search", index, *asked, "--of", "video", "--json", *trust)
        assert code == 0, err
        hits = json.loads(out)["hits"]
        assert [hit["key"].split("/")[0] for hit in hits[:2]] == ["blue", "blue"]
    picture = tmp_path / "green.png"
    PIL.Image.new("RGB", (20, 20), COLOURS["green"]).save(picture)
    code, out, err = run(capsys, "search", index, "--image", picture, "--of", "video", "--json", *trust)
    assert json.loads(out)["hits"][0]["key"].startswith("green/")


@pytest.mark.sweep
def test_shards_of_a_table_of_videos_train_a_tower(place, tmp_path, capsys):
    with open(tmp_path / "table.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["video", "text"])
        for path in sorted((place / "films").rglob("*.*")):
            writer.writerow([path, f"a {path.parent.name} film"])
    shards = tmp_path / "shards"
    code, out, err = run(capsys, "shards", "build", tmp_path / "table.csv", shards, "--split", "train")
    assert code == 0, err
    code, out, err = run(capsys, "shards", "check", *shards.glob("*.tar"))
    assert code == 0, out + err
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.replace("SHARDS", str(shards / "train-*.tar")))
    code, out, err = run(capsys, "train", "--config", config, "--run", tmp_path / "run")
    assert code == 0, err
    model = load(tmp_path / "run")
    assert model.embed(video=[film("red")])["video"].shape == (1, 8)
    assert isinstance(model.towers["video"].encoder, VideoFrames)
    assert model.towers["video"].encoder.pool == "times"


CONFIG = """
seed: 0
model:
  dim: 8
  towers:
    video:
      preprocess: {class_path: align.preprocess.Video, init_args: {frames: 3, size: 16, mean: half}}
      encoder:
        class_path: align.encoders.VideoFrames
        init_args:
          image: {class_path: align.encoders.ImageCNN, init_args: {width: 16, widths: [8], stem: 2}}
          pool: times
          frames: 3
          heads: 2
          depth: 1
    text:
      preprocess: {class_path: align.preprocess.Bytes, init_args: {context: 16}}
      encoder: {class_path: align.encoders.TransformerText, init_args: {context: 16, width: 16, depth: 1, heads: 2}}
objective: {terms: {pair: {loss: align.losses.InfoNCE, between: [video, text]}}}
data: {train: SHARDS, batch: 4, workers: 0}
optim: {lr: 1.0e-3}
trainer: {max_steps: 2, accelerator: cpu}
"""


@pytest.fixture(scope="module")
def url(place, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    from align.commands import main

    assert (
        main(["index", "build", str(place / "model"), str(place / "films"), "--out", str(folder / "index"), *trust])
        == 0
    )
    made = load(place / "model", allow=("test_video_everywhere",))
    loaded = Loaded(made, Searcher(LocalIndex.open(folder / "index"), made), Limits(decoders=1), name="films")
    loaded.decoders.start()
    with serving(loaded, Limits(decoders=1)) as (address, _):
        yield address


@pytest.mark.slow
def test_the_server_embeds_and_searches_an_uploaded_video(url):
    with httpx.Client(base_url=url, timeout=60) as client:
        files = {"video": ("a.mp4", film("green"), "video/mp4")}
        found = client.post("/v1/search", files=files, data={"of": "video"})
        assert found.status_code == 200, found.text
        assert [hit["item"]["key"].split("/")[0] for hit in found.json()["hits"]][:2] == ["green", "green"]
        broken = client.post("/v1/search", files={"video": ("a.mp4", film("green")[:300])}, data={"of": "video"})
        assert broken.status_code == 422
        assert "video/truncated" in broken.text
        number = found.json()["hits"][0]["id"]
        media = f"/v1/items/{number}/media/video"
        whole = client.get(media, params={"form": "shown"})
        assert whole.headers["content-type"] in ("video/mp4", "video/webm")
        part = client.get(media, params={"form": "shown"}, headers={"range": "bytes=4-11"})
        assert part.status_code == 206
        assert part.content == whole.content[4:12]


@pytest.fixture(scope="module")
def page(url):
    with chromium() as browser:
        yield browser.new_page(viewport={"width": 1280, "height": 900})


@pytest.mark.slow
def test_the_page_shows_stills_of_videos_and_a_player_for_one(url, page):
    page.goto(f"{url}/?text=red&of=video")
    assert page.locator(".hit img.picture").count() == 6
    until(page, "[...document.querySelectorAll('.hit img.picture')].slice(0, 4).every((i) => i.naturalWidth)")
    links = {link.inner_text(): link.get_attribute("href") for link in page.locator(".hit h2 a").all()}
    page.goto(f"{url}/{links['red/red2']}")  # a WebM, which Chromium plays
    until(page, "document.querySelector('video.film').readyState > 0")
    assert page.evaluate("Math.round(document.querySelector('video.film').duration)") == 2
    page.goto(f"{url}/{links['red/red1']}")  # MPEG-4 of 1999, which no browser plays
    page.wait_for_selector(".face img.picture")
    until(page, "document.querySelector('.face img.picture').naturalWidth > 0")
    assert page.locator("video").count() == 0
    page.goto(url)
    assert page.get_by_text("Ask with this video").is_visible()


def test_a_model_of_videos_alone_offers_no_camera(place):
    """The camera takes a picture, which only a tower of pictures is asked with."""
    made = make_model()
    alone = JointModel({"video": Tower(Video(2, size=8), VideoFrames(Colour()), Identity)}, D)
    for model, wanted in ((made, {"picture", "video", "text"}), (alone, {"video"})):
        service: Any = SimpleNamespace(loaded=SimpleNamespace(model=model))
        assert Space(service).takes == wanted


@pytest.fixture
def published(tiny_clip):
    """A model whose image tower is as ``align import`` makes it: the projection inside the encoder, no head."""
    torch.manual_seed(0)
    image = OpenClipImage("align-tiny")
    image.origin = Origin("somewhere", "0" * 64, "mit")
    model = JointModel(
        {"image": Tower(None, image, Identity), "text": Tower(Bytes(12), Named(), Linear)}, image.width
    ).eval()
    model.terms = [TermInfo(("image", "text"), "pairwise", 20.0)]
    return model


@pytest.mark.parametrize("pool", ["mean", "unit-mean"])
def test_a_published_image_tower_reads_videos(published, tmp_path, pool):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 40, 50, 3), np.uint8)
    stills = [torch.from_numpy(frame).permute(2, 0, 1) for frame in pixels]
    before = published.embed(image=stills)["image"]
    with torch.no_grad():
        values = published.preprocess["image"].collate([published.preprocess["image"].row(x) for x in stills])
        raw = published.towers["image"](values)
    parts = [x / x.norm() for x in raw] if pool == "unit-mean" else list(raw)
    mean = sum(parts) / 4
    made = with_videos(published, pool, frames=4)
    save(made, tmp_path / "m")
    for model in (made, load(tmp_path / "m", allow=("test_video_everywhere",))):
        torch.testing.assert_close(model.embed(video=[pixels])["video"][0], mean / mean.norm())
        torch.testing.assert_close(model.embed(image=stills)["image"], before)
        assert [term.modalities for term in model.terms] == [("image", "text"), ("video", "text")]
        assert model.terms[1].scale == 20
        origin = model.towers["video"].encoder.origin
        assert origin.source == "somewhere"
        assert not origin.changed
    about = json.loads((tmp_path / "m" / "model.json").read_text())["parts"]
    assert about["image.encoder"]["source"] == "somewhere"


def test_videos_are_refused_where_they_would_mean_nothing(published):
    twice = with_videos(published)
    words = JointModel({"text": Tower(Bytes(12), Named(), Linear)}, D)
    headed = JointModel({"image": Tower(Image(size=8), Colour(), Linear)}, D)
    grey = JointModel({"image": Tower(Image(size=8, channels=1), Colour(), Identity)}, D)
    for model, says in (
        (words, "need a tower of images; the model has text"),
        (twice, "has a tower 'video' already"),
        (headed, "'image' has a head behind its features .Linear.; take mean"),
        (grey, "three channels of 8 bits"),
    ):
        with pytest.raises(ValueError, match=says):
            with_videos(model)
    assert with_videos(headed, "mean").modalities == ["image", "video"]


def test_import_makes_a_tower_of_videos(tmp_path, capsys):
    source = make_open_clip(tmp_path / "open_clip")
    code, out, err = run(capsys, "import", "open_clip", source, tmp_path / "m", "--video", "unit-mean")
    assert code == 0, err
    assert [line.split()[0] for line in out.splitlines()[1:4]] == ["image", "text", "video"]
    (tmp_path / "a.mp4").write_bytes(film("red"))
    code, out, err = run(capsys, "zeroshot", tmp_path / "m", tmp_path / "a.mp4", "--classes", "a,b", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["how"] == "objective"
    assert found["files"][0]["modality"] == "video"
