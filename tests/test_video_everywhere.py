"""Videos in the commands, in an index, on the server and beside a published image tower."""

from __future__ import annotations

import csv
import io
import json

import httpx
import numpy as np
import PIL.Image
import pytest
import torch
from playwright.sync_api import sync_playwright
from served import serving
from test_commands_use import run
from videos import write_video

from align import JointModel, Tower, load, save
from align.checkpoint.published import import_published
from align.encoders import OpenClipImage, OpenClipText, VideoFrames
from align.heads import Identity, Linear
from align.model.video import with_videos
from align.preprocess import Bytes, Image, Video
from align.search.local import LocalIndex
from align.search.searcher import Searcher
from align.serve.limits import Limits
from align.serve.loaded import Loaded
from align.values import Features, TermInfo

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
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium")
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(url)
        yield page
        browser.close()


def test_the_page_shows_videos_that_play(url, page):
    page.goto(f"{url}/?text=red&of=video")
    page.wait_for_selector(".hit img.picture")
    assert page.locator(".hit").count() == 6
    assert page.evaluate(
        "[...document.querySelectorAll('.hit img.picture')].every((i) => i.complete && i.naturalWidth)"
    )
    assert page.locator("#camera").is_visible() in (True, False)
    page.goto(f"{url}/{page.locator('.hit h2 a').first.get_attribute('href')}")
    page.wait_for_selector("video.film, img.picture")
    page.wait_for_timeout(500)
    page.screenshot(path="/work/ref/frames/item.png")
    page.goto(f"{url}/?text=red&of=video")
    page.wait_for_selector(".hit img.picture")
    page.screenshot(path="/work/ref/frames/hits.png")
    page.goto(url)
    page.wait_for_selector(".example img")
    page.screenshot(path="/work/ref/frames/first.png")
