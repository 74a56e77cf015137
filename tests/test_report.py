"""The report: one file that loads nothing, says the numbers it was given, and shows what a plain loop finds nearest."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import shutil
import subprocess
from base64 import b64decode, b64encode
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F
from jinja2 import UndefinedError
from PIL import Image
from torch import Tensor

from align.curation.check import diagnose
from align.data import Shards, ShardWriter
from align.media import PICTURE
from align.media.cloud import cloud_face
from align.media.shapes.geometry import normal, scatter
from align.media.sound import PEAKS
from align.page.blocks import AnyBlock
from align.page.chart import Series, limits, ticks
from align.page.faces import face
from align.page.heat import arrange_heat, first_metric
from align.page.section import (
    Bar,
    Bars,
    Block,
    Confusions,
    Curve,
    Histogram,
    Matrix,
    Measured,
    Scatter,
    Section,
    Table,
    Tile,
)
from align.page.section import Gallery as Samples
from align.page.templates import FIGURES, environment
from align.report import Gallery, Item, Query, build_gallery, write_diagnosis, write_look, write_report
from align.report.curves import charts, read, smooth, thin
from align.values import Embeddings, Rows

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> & 'quoted'"
SCORES = {
    "zeroshot/shape/image/accuracy": 0.91237,
    "zeroshot/shape/image/chance": 0.25,
    "zeroshot/shape/audio/accuracy": 0.5013,
    "image_to_text/recall@1": 0.61111,
    "image_to_text/recall@10": 0.98765,
    "image_to_text/median_rank": 3.0,
    "image_to_audio/recall@1": 0.3,
    "text_to_image/recall@1": 0.55,
    "text_to_image/recall@10": 0.87,
    "class/image_to_text/recall@1": 0.7777,
    "audio+image_to_text/recall@10": 0.123,
}
SECTIONS = [
    Section(
        "Zero-shot",
        "Classes told by their names alone.",
        [
            Bars(
                "Attribute",
                "accuracy",
                [Bar("shape", "image", 0.91237, 0.25), Bar("shape", "audio", 0.5013, 0.25)],
                {"shape": "4 classes"},
            )
        ],
        [Tile("shape from image", 0.91237, "zero-shot accuracy", "chance 0.250")],
    ),
    Section(
        "Retrieval",
        "From every modality to every other. Hit: group.",
        [
            Matrix(
                "",
                "same object",
                "group",
                {
                    "recall@1": {("image", "text"): 0.61111, ("image", "audio"): 0.3, ("text", "image"): 0.55},
                    "recall@10": {("image", "text"): 0.98765, ("text", "image"): 0.87, ("audio+image", "text"): 0.123},
                    "median_rank": {("image", "text"): 3.0},
                },
            ),
            Matrix("class/", "same class", "shared class", {"recall@1": {("image", "text"): 0.7777}}),
        ],
        [Tile("recall@10", 0.928825, "mean of 2 directions", "lowest 0.870, text → image")],
    ),
]
PROTOCOL = {
    "version": "0.1.0",
    "command": "align evaluate runs/a shards/'b <c>'.tar",
    "model": "ab" * 32,
    "shards": {"shards/test-000000.tar": 500},
    "classes": {"shape": ["cone", "cube", "torus", HOSTILE]},
    "hit rule": "group",
    "tie rule": "ties never help",
    "bad": {"image/truncated": 2, "audio/empty": 11},
}


class Parsed(HTMLParser):
    """What a browser would see: tags with attributes, and text by the tag it stands in."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, list[str]] = {}
        self._open = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag

    def handle_data(self, data: str) -> None:
        self.text.setdefault(self._open, []).append(data)


def png(side: int = 32) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(side).integers(0, 255, (side, side, 3), np.uint8)).save(out, "PNG")
    return out.getvalue()


def wav(seconds: float = 0.1, rate: int = 16000) -> bytes:
    out = io.BytesIO()
    t = np.arange(int(seconds * rate)) / rate
    soundfile.write(out, (np.sin(2000 * t) * np.exp(-20 * t)).astype(np.float32), rate, format="WAV")
    return out.getvalue()


def npy(points: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, points)
    return out.getvalue()


def ball(n: int, seed: int = 0) -> np.ndarray:
    """(n, 6): coloured points on the unit sphere."""
    rng = np.random.default_rng(seed)
    xyz = rng.standard_normal((n, 3))
    return np.hstack([xyz / np.linalg.norm(xyz, axis=1, keepdims=True), rng.random((n, 3))]).astype(np.float32)


def table(modalities: dict[str, list[int]], B: int = 9, D: int = 8, group: list[int] | None = None) -> Embeddings:
    """Random embeddings with the given sample ids as rows."""
    g = torch.Generator().manual_seed(1)
    rows = {
        m: Rows(F.normalize(torch.randn(len(s), D, generator=g), dim=1), torch.tensor(s)) for m, s in modalities.items()
    }
    groups = None if group is None else torch.tensor(group)
    return Embeddings(rows, [f"s{i}" for i in range(B)], torch.arange(B), [{"n": i} for i in range(B)], group=groups)


def members(i: int) -> dict[str, Any]:
    return {
        "__key__": f"s{i}",
        "__url__": "a.tar",
        "image.png": png(),
        "audio.wav": wav(),
        "points.npy": npy(ball(600, i)),
        "text.txt": f"{HOSTILE} number {i}\nsecond line".encode(),
        "text.neg.txt": b"a hard negative",
        "json": b"{}",
    }


def metrics(path: Path, steps: int = 40) -> Path:
    """A metrics.csv as training writes it: validation every ten steps."""
    with path.open("w", newline="") as f:
        writer = csv.writer(f)
        names = ["clip/image-text", "val/loss", "val/image_to_text/recall@1", "val/text_to_image/recall@1"]
        writer.writerow(["step", "loss", names[0], "clip/scale", "lr", "samples_per_second", "wait", "bad", *names[1:]])
        for s in range(1, steps + 1):
            rare = [2 / s, 0.5, 0.25] if s % 10 == 0 else ["", "", ""]
            writer.writerow([s, 4 / s, 3 / s if s > 1 else "nan", 14.3, 1e-3, 400, 0.1, 0, *rare])
    return path


def page_of(path: Path, **more: Any) -> tuple[str, Parsed]:
    given = {"title": HOSTILE, "scores": SCORES, "protocol": PROTOCOL, "sections": SECTIONS, **more}
    text = write_report(path, **given).read_text(encoding="utf-8")
    return text, Parsed(text)


@pytest.fixture(scope="module")
def four() -> Gallery:
    every = list(range(9))
    embeddings = table({"audio": every, "image": every, "points": every, "text": every})
    return build_gallery(embeddings, {f"s{i}": members(i) for i in every}, queries=3, k=4)


def by_loop(embeddings: Embeddings, of: str, to: str, sample: int, k: int) -> list[tuple[int, float]]:
    """The nearest samples, one product at a time."""
    a, b = embeddings[of], embeddings[to]
    assert isinstance(a.values, Tensor)
    assert isinstance(b.values, Tensor)
    query = next(v for v, s in zip(a.values, a.sample.tolist(), strict=True) if s == sample)
    best: dict[int, float] = {}
    for v, s in zip(b.values, b.sample.tolist(), strict=True):
        if s >= 0:
            best[s] = max(best.get(s, -2.0), float((query * v).sum() / query.norm() / v.norm()))
    return sorted(best.items(), key=lambda pair: -pair[1])[:k]


def test_gallery_finds_what_a_loop_finds_also_with_holes_and_several_captions() -> None:
    embeddings = table({"image": [0, 1, 2, 4, 5, 8], "text": [0, 0, 1, 3, -1, 4, 4, 7, 8], "audio": [6, 1]})
    gallery = build_gallery(embeddings, {}, queries=4, k=5)
    assert {(q.of, q.to) for q in gallery.queries} == {(a, b) for a in embeddings for b in embeddings if a != b}
    for query in gallery.queries:
        sample = int(gallery.items[query.item].key[1:])
        found = [(int(gallery.items[a.item].key[1:]), a.score) for a in query.answers]
        expected = by_loop(embeddings, query.of, query.to, sample, 5)
        assert [s for s, _ in found] == [s for s, _ in expected]
        assert [x for _, x in found] == pytest.approx([x for _, x in expected], abs=1e-6)
        assert [a.hit for a in query.answers] == [s == sample for s, _ in found]


def test_gallery_asks_about_samples_with_the_most_modalities() -> None:
    gallery = build_gallery(table({"image": [0, 1, 2, 3, 4], "text": [2, 4, 5]}), {}, queries=2, k=1)
    assert {gallery.items[q.item].key for q in gallery.queries} == {"s2", "s4"}


def test_hits_by_group_by_function_and_by_list() -> None:
    every = list(range(9))
    group = [0, 0, 1, 1, -1, -1, 2, 2, 2]
    embeddings = table({"image": every, "text": every}, group=group)
    lists: list[Any] = ["a", "a", "b", "b", None, None, "c", "c", "c"]
    for hit in (None, lists, lambda i, j: lists[i] == lists[j] and lists[i] is not None):
        gallery = build_gallery(embeddings, {}, queries=9, k=9, hit=hit)
        assert len(gallery.queries) == 18
        for query in gallery.queries:
            s = int(gallery.items[query.item].key[1:])
            right = {j for j in every if j == s or (group[j] == group[s] and group[s] >= 0)}
            assert {int(gallery.items[a.item].key[1:]) for a in query.answers if a.hit} == right
    with pytest.raises(ValueError, match="2 groups for 9 samples"):
        build_gallery(embeddings, {}, hit=[1, 2])


def test_ties_put_the_wrong_answer_first() -> None:
    same = Rows(torch.ones(4, 3), torch.arange(4))
    embeddings = Embeddings({"image": same, "text": same}, list("abcd"), torch.arange(4))
    for query in build_gallery(embeddings, {}, queries=4, k=4).queries:
        assert [a.hit for a in query.answers] == [False, False, False, True]


def test_gallery_reads_an_iterator_once_and_keeps_only_what_it_shows() -> None:
    every = list(range(9))
    embeddings = table({"image": every, "text": every})
    seen = []

    def samples() -> Any:
        for i in every:
            seen.append(i)
            yield members(i)

    gallery = build_gallery(embeddings, samples(), queries=2, k=2)
    assert seen == every
    assert {m for item in gallery.items for m in item.faces} == {"image", "text"}
    assert all(item.caption.endswith(f"number {item.key[1:]}") for item in gallery.items)
    assert len(gallery.items) < len(every)


def test_gallery_reads_from_shards_only_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mine(i: int) -> dict[str, bytes]:
        return {"jpg" if i % 2 else "image.png": png(), "txt": b"one caption\nof two lines", "json": b'{"said": "it"}'}

    with ShardWriter(tmp_path, per_shard=4) as writer:
        for i in range(9):
            writer.write(f"s{i}", mine(i))
    shards = Shards(str(tmp_path / "train-*.tar"), shuffle=False)
    every = list(range(9))
    embeddings = table({"image": every, "text": every})
    read_ = Shards.read
    asked: list[int] = []
    monkeypatch.setattr(Shards, "read", lambda self, p, *rest: asked.append(p) or read_(self, p, *rest))
    gallery = build_gallery(embeddings, shards, queries=2, k=2)
    assert sorted(asked) == sorted(int(item.key[1:]) for item in gallery.items)
    assert len(asked) < 9
    assert {item.faces[m].element for item in gallery.items for m in item.faces if m == "image"} == {"picture"}
    assert all(f.data == "one caption of two lines" for i in gallery.items for m, f in i.faces.items() if m == "text")
    embeddings.ids.reverse()
    with pytest.raises(ValueError, match="of other shards, or of another order: position 0 is 's8' there and 's0'"):
        build_gallery(embeddings, shards, queries=2, k=9)
    said = Shards(str(tmp_path / "train-*.tar"), shuffle=False, members={"text": ["json:said"]})
    shown = face("text", said.read(0)[0], said.members)
    assert shown is not None
    assert shown.data == "it"


def test_gallery_stays_below_its_size() -> None:
    every = list(range(9))
    embeddings = table({"image": every, "points": every})
    samples = {f"s{i}": members(i) for i in every}
    whole = build_gallery(embeddings, samples, queries=9, k=1)
    small = build_gallery(embeddings, samples, queries=9, k=1, max_bytes=20_000)
    assert len(whole.queries) == 18
    assert 2 <= len(small.queries) < 18
    assert sum(len(f.data) for item in small.items for f in item.faces.values()) <= 20_000


def test_gallery_needs_two_modalities() -> None:
    with pytest.raises(ValueError, match="rows of two modalities; these embeddings have image"):
        build_gallery(table({"image": [0, 1], "text": [-1]}), {})


def test_faces_by_suffix_and_none_for_what_cannot_be_shown() -> None:
    sample = members(0) | {
        "depth.png": png(),
        "broken.png": b"no",
        "feature.npy": npy(np.zeros(8)),
        "cut.npy": b"\x93NUM",
    }
    kinds = {m: f.element if (f := face(m, sample)) else None for m in ("image", "audio", "points", "text", "depth")}
    assert kinds == {"image": "picture", "audio": "sound", "points": "cloud", "text": "text", "depth": "picture"}
    assert [face(m, sample) for m in ("broken", "feature", "cut", "absent")] == [None] * 4
    text = face("text", sample)
    assert text is not None
    assert "hard negative" not in text.data
    stored = face("audio", sample)
    assert stored is not None
    assert stored.data == sample["audio.wav"]
    assert len(stored.more["peaks"]) == PEAKS
    assert stored.more["peaks"][0] > stored.more["peaks"][-1]


def test_large_members_become_small() -> None:
    assert len(PICTURE.face(png(300), "png").data) < len(png(300)) / 3
    long = face("audio", {"audio.wav": wav(9.0)})
    assert long is not None
    assert (long.more["type"], round(long.more["seconds"], 3)) == ("audio/mpeg", 6.0)
    assert len(long.data) < 60_000


def test_cloud_is_quantised_evenly_spread_and_lit_from_outside() -> None:
    points = ball(5000) * np.array([3, 3, 3, 1, 1, 1], np.float32)
    found = cloud_face(points)
    assert found is not None
    assert len(found.data) == 9 * 512
    places = np.frombuffer(found.data, np.int8, 3 * 512).reshape(-1, 3) / 127 * found.more["radius"]
    gap = np.linalg.norm(places[:, None] - points[None, :, :3], axis=2).min(axis=1)
    assert gap.max() < 0.15  # of a radius of 3
    xyz = ball(512)[:, :3]
    assert (normal(xyz) * xyz).sum(axis=1).min() > 0.8  # a sphere's normals are its places

    def closest(x: np.ndarray) -> float:
        return float((np.linalg.norm(x[:, None] - x[None], axis=2) + 9 * np.eye(len(x))).min())

    even = ball(5000)[:, :3][scatter(ball(5000)[:, :3], 100)]
    assert closest(even) > 3 * closest(ball(5000)[:100, :3])


def test_page_loads_nothing_from_elsewhere(tmp_path: Path, four: Gallery) -> None:
    text, page = page_of(
        tmp_path / "report.html", gallery=four, curves=metrics(tmp_path / "metrics.csv"), summary={"a": "b"}
    )
    links = [
        (t, k, v)
        for t, attrs in page.tags
        for k, v in attrs.items()
        if k in {"href", "src", "srcset", "action", "data"}
    ]
    assert [x for x in links if not (x[2] or "").startswith(("#", "data:"))] == []
    assert not re.search(r"url\((?!#)", text)
    assert "@import" not in text
    assert set(re.findall(r"https?://[\w./]+", text)) <= {
        "http://www.w3.org/2000/svg"
    }  # a name, not an address to load
    assert [v for _, attrs in page.tags for k, v in attrs.items() if k.startswith("on") or k == "style"] == []


def test_policy_comes_first_and_allows_this_script_and_style_only(tmp_path: Path) -> None:
    text, page = page_of(tmp_path / "report.html")
    policies = [a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"]
    assert len(policies) == 1
    assert text.index("Content-Security-Policy") < min(text.index("<style>"), text.index("<script>"))
    rules = dict(rule.split(" ", 1) for rule in (policies[0] or "").split("; "))
    for tag in ("script", "style"):
        inside = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert inside
        sha = b64encode(hashlib.sha256(inside[1].encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{sha}'"
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == rules["media-src"] == "data:"
    assert not any("unsafe" in rule for rule in rules.values())


def test_hostile_text_stays_text(tmp_path: Path, four: Gallery) -> None:
    items = [*four.items, Item(HOSTILE, {}, HOSTILE)]
    gallery = Gallery(items, [*four.queries, Query(len(items) - 1, "image", HOSTILE, [])])
    given: dict[str, Any] = {"scores": {HOSTILE: 0.5}, "sections": every_block(HOSTILE), "gallery": gallery}
    text, page = page_of(tmp_path / "report.html", **given, summary={HOSTILE: HOSTILE})
    assert "<script>alert" not in text
    assert [attrs for tag, attrs in page.tags if tag == "img" or "onerror" in attrs] == []
    assert sum(tag == "script" and not attrs for tag, attrs in page.tags) == 1
    block = next(x for x in page.text["script"] if x.startswith('{"up"'))
    assert not set("<>&") & set(block)
    assert json.loads(block)["items"][-1]["caption"] == HOSTILE


def test_the_numbers_are_the_scores(tmp_path: Path) -> None:
    text, _ = page_of(tmp_path / "report.html")
    zero = _section(text, "zero-shot")
    assert _numbers(zero) == [0.5013, 0.91237, 0.25]
    assert ">0.912<" in zero
    assert ">0.501<" in zero
    assert re.findall(r'<rect width="([^"]*)" height="6" class="fill"', zero) == ["50.1", "91.2"]
    assert re.findall(r'<rect x="([^"]*)"[^>]* class="chance"', zero) == ["24.4", "24.4"]
    heat = _section(text, "retrieval")
    shown = re.findall(r'data-hit="([^"]*)" data-metric="([^"]*)"( hidden)?>(.*?)</table>', heat, re.DOTALL)
    assert [(hit, metric) for hit, metric, hidden, _ in shown if not hidden] == [("", "recall@10")]
    panels = {(hit, metric): _numbers(html) for hit, metric, _, html in shown}
    image, text_row = [0.3, 0.61111, (0.3 + 0.61111) / 2], [0.55, 0.55]
    columns = [0.3, 0.55, 0.61111, (0.3 + 0.55 + 0.61111) / 3]
    assert panels["", "recall@1"] == pytest.approx([*image, *text_row, *columns])
    assert panels["class/", "recall@1"][0] == 0.7777
    assert panels["", "median_rank"][0] == 3.0
    assert set(panels["", "recall@10"]) >= {0.98765, 0.87, 0.123}
    listed = re.findall(r'<th scope="row">([^<]*)</th><td><data value="([^"]*)"', _section(text, "protocol"))
    assert {k: float(v) for k, v in listed} == SCORES
    assert re.findall(r">([\w/]+)</th><td>(\d+)<", _section(text, "bad")) == [
        ("audio/empty", "11"),
        ("image/truncated", "2"),
        ("all", "13"),
    ]


def _section(text: str, key: str) -> str:
    found = re.search(rf'<section id="{key}">(.*?)</section>', text, re.DOTALL)
    assert found, f"no section {key}"
    return found[1]


def _numbers(html: str) -> list[float]:
    return [float(x) for x in re.findall(r'<data value="([^"]*)"', html)]


def test_what_is_not_given_is_not_on_the_page(tmp_path: Path) -> None:
    few = {"image_to_text/recall@1": 0.5, "text_to_image/recall@1": 0.25}
    text, page = page_of(tmp_path / "report.html", scores=few, protocol={}, sections=SECTIONS[1:])
    assert re.findall(r'<section id="([^"]*)"', text) == ["retrieval", "protocol"]
    assert "gallery-data" not in [attrs.get("id") for _, attrs in page.tags]
    text, _ = page_of(tmp_path / "empty.html", scores={}, protocol={}, sections=())
    assert re.findall(r'<section id="([^"]*)"', text) == []


NAN, INF = float("nan"), float("inf")
AB = {("a", "b"): 0.5, ("b", "a"): NAN}


@pytest.mark.parametrize(
    "block",
    [
        Table(["a"], []),
        Bars("r", "m", [], {}),
        Matrix("", "h", "r", {}),
        Matrix("", "h", "r", {"recall@1": {}}),
        Curve("c", "x", "y", {}),
        Curve("c", "x", "y", {"a": [], "b": [(0, NAN), (INF, 1)]}),
        Samples([], {}),
        Confusions("c", [], []),
        Confusions("c", ["a", "b"], [[0, 0], [0, 0]]),
        Histogram("h", "x", [0.0, 1.0], {}),
        Histogram("h", "x", [0.0, 1.0], {"a": [], "b": [NAN]}),
        Scatter("m", {}),
        Scatter("m", {"a": [], "b": [(NAN, 1.0), (1.0, INF)]}),
    ],
)
def test_a_block_without_content_is_left_out(tmp_path: Path, block: Block) -> None:
    sections = [Section("Empty", "", [block]), Section("Both", "", [block, Table(["a"], [["there"]])])]
    text, _ = page_of(tmp_path / "x.html", sections=sections)
    assert re.findall(r'<section id="([^"]*)"', text)[0] == "both"
    assert _section(text, "both").count('<div class="') == 1


def test_values_that_are_no_numbers_are_not_drawn(tmp_path: Path) -> None:
    blocks: Any = [
        Matrix("", "h", "r", {}),
        Matrix("x/", "h", "r", {"mrr": {}, "recall@k": AB, "recall@1": AB}),
        Bars("r", "m", [Bar("a", "b", NAN, NAN), Bar("a", "c", 0.25, INF), Bar("d", "b", 0.5, 0.5)], {}),
        Curve("c", "x", "y", {"a": [(0, 1.0), (1, NAN), (2, 2.0), (INF, 3)], "b": [], "c": [(0, 1e308), (1, -1e308)]}),
        Curve("n", "x", "y", {"a": [(np.int64(0), np.float32(1)), (np.int64(1), np.float32(2))]}),
    ]
    text, page = page_of(tmp_path / "x.html", sections=[Section("S", "", blocks)])
    drawn = [value for tag, attrs in page.tags if tag in ("rect", "path", "line", "text") for value in attrs.values()]
    assert not [value for value in drawn if re.search(r"\b(nan|-?inf)\b", value or "")]
    assert text.count('class="fill"') == 2
    assert text.count('class="chance"') == 1
    first, second = [json.loads(x) for x in page.text["script"] if x.startswith('{"box"')]
    assert [(s["n"], s["p"]) for s in first["series"]] == [("a", [[0, 1], [2, 2]])]
    assert second["series"][0]["p"] == [[0, 1], [1, 2]]
    levels = re.findall(r'<td class="(h[^"]*)">', text)
    assert levels == ["h h10", "h", "h h10", "h"]
    assert re.findall(r'data-hit="([^"]*)" data-metric="([^"]*)"( hidden)?', text) == [
        ("x/", "recall@k", " hidden"), ("x/", "recall@1", "")
    ]  # fmt: skip


def test_each_anchor_of_a_page_is_its_own(tmp_path: Path, four: Gallery) -> None:
    titles = [
        "Gallery",
        "Protocol",
        "top",
        "Rows",
        "cards-data",
        "gallery-data",
        "Same",
        "same",
        "Same 2",
        "",
        "",
        "a\tb",
    ]
    matrix = Matrix("", "h", "r", {"recall@1": AB, "mrr": AB})
    blocks: list[Block] = [Curve("c", "x", "y", {"a": [(0, 1)]}), matrix, Curve("c", "x", "y", {"a": [(0, 1)]})]
    sections = [Section(title, "", [*blocks, Samples(["s0"], {})]) for title in titles]
    text, page = page_of(tmp_path / "x.html", sections=sections, gallery=four)
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert "" not in ids
    assert set(re.findall(r'href="#([^"]*)"', text)) <= set(ids) | {f"{q.of}_to_{q.to}" for q in four.queries} | {
        f"i-{name}" for name in ("image", "audio", "points", "text", "other")
    }
    buttons = [(attrs["name"], attrs["value"]) for tag, attrs in page.tags if tag == "input"]
    assert len(buttons) == len(set(buttons))


def test_two_modalities_and_a_modality_of_ones_own(tmp_path: Path) -> None:
    embeddings = table({"image": [0, 1, 2], "thermal": [0, 1, 2]}, B=3)
    gallery = build_gallery(embeddings, {f"s{i}": members(i) for i in range(3)}, queries=2)
    text, page = page_of(tmp_path / "report.html", gallery=gallery)
    assert {v["value"] for t, v in page.tags if t == "input" and v.get("name") == "of"} == {"image", "thermal"}
    data = json.loads(next(x for x in page.text["script"] if x.startswith('{"up"')))
    assert all("thermal" not in item["faces"] for item in data["items"])
    assert b64decode(next(i for i in data["items"] if "image" in i["faces"])["faces"]["image"]["d"]) == png()
    assert "gallery" in re.findall(r'<section id="([^"]*)"', text)


def test_bad_data_of_the_run_stands_beside_that_of_the_evaluation(tmp_path: Path) -> None:
    curves = metrics(tmp_path / "metrics.csv")
    (tmp_path / "bad.json").write_text('{"points/shape": 7}')
    text, _ = page_of(tmp_path / "report.html", curves=curves)
    assert re.findall(r'<th scope="col">(\w+)</th>', _section(text, "bad")) == ["Reason", "training", "evaluation"]
    text, _ = page_of(tmp_path / "none.html", bad={}, protocol={"bad": {}})
    assert "every sample and member that training and evaluation read was good" in _section(text, "bad")


def test_curves_have_every_column_and_its_values(tmp_path: Path) -> None:
    columns = read(metrics(tmp_path / "metrics.csv"))
    assert columns["val/loss"] == [(10, 0.2), (20, 0.1), (30, 2 / 30), (40, 0.05)]
    assert len(columns["clip/image-text"]) == 39  # nan left out
    text, _ = page_of(tmp_path / "report.html", curves=tmp_path / "metrics.csv")
    figures = re.findall(r"<figcaption><b>(.*?)</b>.*?(\{.*?\})</script>", _section(text, "curves"), re.DOTALL)
    data = {title: {s["n"]: s["p"] for s in json.loads(text)["series"]} for title, text in figures}
    assert list(data) == [
        "Loss", "Loss per term", "Validation recall@1", "Scale", "Learning rate", "Samples per second",
        "Share of time waiting for data",
    ]  # fmt: skip
    assert data["Loss"]["validation"] == [[10, 0.2], [20, 0.1], [30, 0.066667], [40, 0.05]]
    assert data["Validation recall@1"]["image → text"] == [[s, 0.5] for s in (10, 20, 30, 40)]
    assert data["Scale"]["clip"][0] == [1, 14.3]
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "absent.csv")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="has the columns a, b; curves need 'step'"):
        read(tmp_path / "other.csv")
    (tmp_path / "empty.csv").write_text("")
    assert charts(read(tmp_path / "empty.csv")) == []


def test_smooth_thin_and_ticks() -> None:
    points = [(float(i), float(i % 7)) for i in range(1000)]
    keep = 0.5 ** (1 / 10)
    for i in (0, 3, 500, 999):
        weights = [keep ** abs(i - j) for j in range(1000)]
        mean = sum(w * y for w, (_, y) in zip(weights, points, strict=True)) / sum(weights)
        assert smooth(points)[i][1] == pytest.approx(mean, abs=1e-9)
    spike = [(x, 99.0 if x == 481 else y) for x, y in points]
    thinned = thin(spike, 100)
    assert len(thinned) <= 100
    assert (481.0, 99.0) in thinned
    assert thinned[0] == spike[0]
    assert thinned[-1] == spike[-1]
    assert thinned == sorted(thinned)
    assert thin(points[:50], 100) == points[:50]
    assert ticks(0, 1.02) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert ticks(1, 900) == pytest.approx([200, 400, 600, 800])
    assert ticks(3, 3) == [3]


def test_recall_at_10_is_shown_first() -> None:
    assert first_metric(["recall@1", "recall@10", "recall@50", "median_rank"]) == "recall@10"
    assert first_metric(["median_rank", "recall@1", "recall@5"]) == "recall@5"
    assert first_metric(["map", "median_rank"]) == "median_rank"


def every_block(name: str) -> list[Section]:
    """A section with every kind of block, in which every text is `name`."""
    blocks: list[Block] = [
        Table([name, name], [[name, 0.5], [name, name]]),
        Bars(name, name, [Bar(name, name, 0.5, 0.25), Bar(name, f"{name}b", 0.25)], {name: name}),
        Bars(name, "other", [Bar(name, name, 0.125)], {}),
        Matrix(name, name, name, {name: {(name, f"{name}b"): 0.5, (f"{name}b", name): 0.75}}),
        Curve(name, name, name, {name: [(0, 0.0), (1, 1.0)]}),
        Samples(["s0", name], {"s0": name, name: name}),
        Histogram(name, name, [0.0, 0.5, 1.0], {name: [0.25, 0.75]}),
        Scatter(name, {name: [(0.0, 1.0), (1.0, 0.0)]}, name),
        Confusions(name, [name, f"{name}b"], [[3, 1], [0, 0]]),
        Confusions(name, [name], [[1]]),
        Table([name], [[Measured(0.5, (0.25, 0.75))]]),
    ]
    return [Section(name, name, blocks, [Tile(name, 0.5, name, name)])]


def structure(page: Parsed) -> list[tuple[str, list[str]]]:
    """All elements with the names of their attributes."""
    return [(tag, sorted(attrs)) for tag, attrs in page.tags]


@pytest.mark.parametrize("name", [HOSTILE, "'\"><b>", "a\u2028b", "{{ 7 * 7 }}{% raw %}", "a\udc80", "&lt;"])
def test_no_name_changes_the_structure_of_a_page(tmp_path: Path, name: str) -> None:
    def written(name: str) -> tuple[str, Parsed]:
        protocol: dict[str, Any] = {"version": name, "model": name, "notes": [name], "bad": {name: 1}, "command": name}
        protocol |= {name: name, "records": [{name: name}], "nested": {name: [name]}, "list": [name]}
        given: dict[str, Any] = {"sections": every_block(name), "scores": {name: 0.5}, "samples": {"s0": members(0)}}
        return page_of(tmp_path / "x.html", title=name, protocol=protocol, summary={name: name}, **given)

    (_, page), (_, plain) = written(name), written("plain")
    assert structure(page) == structure(plain)
    shown = name.replace("\udc80", "?")
    assert sum(shown in part for texts in page.text.values() for part in texts) >= 30
    data = next(x for x in page.text["script"] if x.startswith('{"up"'))
    assert data.isascii()
    assert [card["detail"] for card in json.loads(data)["groups"][0]] == [name, name]


@pytest.mark.parametrize("name", [HOSTILE, "'\"><b>", "a\u2028b", "{{ 7 * 7 }}"])
def test_no_name_changes_the_structure_of_a_page_of_shards(tmp_path: Path, name: str) -> None:
    def written(name: str, folder: Path) -> list[Parsed]:
        with ShardWriter(folder) as writer:
            for i in range(2):
                about = json.dumps({"label": {name: name}}).encode()
                writer.write(
                    f"s{i}", {"image.png": png(), "text.txt": name.encode(), "audio.wav": b"no", "json": about}
                )
        shards, facts = Shards(f"{folder}/train-*.tar", shuffle=False), {name: name, "set": "a\udc80"}
        paths = [
            write_look(folder / "look.html", shards, [0, 1], title=name, facts=facts),
            write_diagnosis(folder / "check.html", diagnose([f"{folder}/train-*.tar"]), title=name, facts=facts),
        ]
        return [Parsed(path.read_text(encoding="utf-8")) for path in paths]

    for page, plain in zip(written(name, tmp_path / "a"), written("plain", tmp_path / "b"), strict=True):
        assert structure(page) == structure(plain)
        assert page.text["h1"] == [name]
        assert "a?" in page.text["dd"]
        cards = [card for group in json.loads(page.text["script"][0])["groups"] for card in group]
        faces = [face for card in cards for _, face, _ in card["faces"] if face]
        assert " ".join(name.split()) in [face["d"] for face in faces if face["k"] == "text"]


def test_every_block_is_drawn_by_its_template(tmp_path: Path) -> None:
    names = {kind.__name__.lower() for kind in get_args(AnyBlock)} - {"gallery"}  # it becomes a group of cards
    kinds = {FIGURES.get(name, name) for name in names}
    drawn = {path.stem for path in Path(str(files("align.page"))).glob("kit/blocks/*.html")}
    assert drawn == kinds, "a block is a class in the unions of page/section.py or page/blocks.py, and its template"
    kit = "".join(path.read_text() for path in Path(str(files("align.page"))).rglob("kit/**/*.html"))
    assert re.findall(r"\w+\s*\|\s*safe", kit) == ["style|safe", "script|safe"]  # all else is escaped
    with pytest.raises(UndefinedError, match="no attribute 'nothing'"):
        environment().from_string("{{ page.nothing }}").render(page=SECTIONS)
    text, page = page_of(tmp_path / "x.html", sections=every_block("shape"), samples={"s0": members(0)})
    section = _section(text, "shape")
    first, second = re.findall(r"<thead>.*?</tbody>", section)[0].split("</thead>")
    assert re.findall(r"<th [^>]*>", first) == ['<th scope="col">', '<th scope="col" class="count">']
    assert re.findall(r"<td[^>]*>", second) == ['<td class="text">', '<td class="count">'] * 2
    assert '<td class="count"><data value="0.5">0.500</data></td>' in section
    panels = re.findall(r'<div class="scroll" data-hit="([^"]*)" data-metric="([^"]*)"( hidden)?>', section)
    assert panels == [("", "shape", ""), ("", "other", " hidden"), ("shape", "shape", "")]
    buttons = [attrs["name"] for tag, attrs in page.tags if tag == "input"]
    assert buttons == ["shape.2-metric"] * 2 + ["shape.3-metric"] + ["shape.7-metric"] * 2  # one row of them a place
    assert '<text x="410.0" y="230.0" class="unit">shape</text>' in section
    cards = json.loads(next(x for x in page.text["script"] if x.startswith('{"up"')))["groups"]
    assert [(card["key"], [part[0] for part in card["faces"]], card["detail"]) for card in cards[0]] == [
        ("s0", ["audio.wav", "image.png", "points.npy", "text.txt", "text.neg.txt"], "shape"),
        ("shape", [], "shape"),
    ]


def test_the_elements_of_bars_and_of_a_matrix(tmp_path: Path, four: Gallery) -> None:
    text, _ = page_of(tmp_path / "report.html", gallery=four)
    icon = '<svg class="icon" aria-hidden="true" viewBox="0 0 16 16"><use href="#i-{0}"/></svg>'
    name = '<span class="modality">' + icon + "<span>{0}</span></span>"
    bar = (
        '<svg class="bar" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">'
        '<rect width="100" height="6" class="track"/><rect width="{}" height="6" class="fill"/>'
        '<rect x="24.4" width="1.2" height="6" class="chance"/></svg>'
    )
    assert _section(text, "zero-shot") == (
        "<header><h2>Zero-shot</h2><p>Classes told by their names alone.</p></header>"
        '<div class="scroll"><table class="bars"><thead><tr><th scope="col">Attribute</th>'
        f'<th scope="col">{name.format("audio")}</th><th scope="col">{name.format("image")}</th>'
        '<th scope="col">Chance</th></tr></thead><tbody><tr><th scope="row">shape<small>4 classes</small></th>'
        f'<td><data value="0.5013">0.501</data>{bar.format("50.1")}</td>'
        f'<td><data value="0.91237">0.912</data>{bar.format("91.2")}</td>'
        '<td><data value="0.25">0.250</data></td></tr></tbody></table></div>'
    )
    cell = '"><a href="#image_to_text" title="see image → text"><data value="{}</data></a></td>'
    assert '<td class="h h12' + cell.format('0.61111">0.611') in _section(text, "retrieval")
    assert '<td class="h' + cell.format('3.0">3.000') in _section(text, "retrieval")  # a rank has no colour
    tiles = re.findall(r'<div class="tile"><div class="big">(.*?)</div><div class="what">(.*?)</div>', text)
    assert {name: _numbers(value) for value, name in tiles} == {"shape from image": [0.91237], "recall@10": [0.928825]}


@pytest.mark.sweep
def test_a_browser_draws_it_without_complaint(tmp_path: Path, four: Gallery) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("there is no chromium here")
    path = write_report(
        tmp_path / "report.html", title="t", scores=SCORES, protocol=PROTOCOL, gallery=four,
        curves=metrics(tmp_path / "metrics.csv"), sections=[*SECTIONS, *every_block("shape")],
        samples={"s0": members(0)},
    )  # fmt: skip
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    flags += ["--disable-component-update", "--disable-sync", "--enable-logging=stderr", "--virtual-time-budget=2000"]
    flags += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    for of, to, what in (
        ("text", "points", "<canvas"),
        ("points", "audio", 'class="sound"'),
        ("audio", "image", "<img"),
    ):
        done = subprocess.run(
            [chromium, *flags, f"{path.as_uri()}#{of}_to_{to}"],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
        assert console == []  # neither an error nor a refusal of the policy
        rows = done.stdout[done.stdout.index('id="rows"') :]
        asked = [q for q in four.queries if (q.of, q.to) == (of, to)]
        assert rows.count("<article") == len(asked)
        assert rows.count(what) >= sum(len(q.answers) for q in asked)
        assert rows.count("card hit") == sum(a.hit for q in asked for a in q.answers)
        first = len([q for q in asked if q.answers[0].hit])
        assert f"right for {first} of these {len(asked)}" in done.stdout
        assert done.stdout.count('class="card sample"') == 2
        panels = re.findall(r'data-hit="[^"]*" data-metric="(\w+[^"]*)"( hidden="")?>', done.stdout)
        assert [metric for metric, hidden in panels if not hidden] == ["recall@10", "shape", "shape", "0"]


def test_tables_and_galleries_have_titles(tmp_path):
    blocks = [Table(["a"], [["b"]], title="Pairs <x>"), Table(["a"], [["b"]]), Samples(["k"], {}, "Hubs")]
    text = page_of(tmp_path / "x.html", sections=[Section("s", "", blocks)])[0]
    assert re.findall("<caption>(.*)</caption>", text) == ["Pairs &lt;x&gt;"]
    assert '<p class="group-title">Hubs</p>' in text


def test_a_modality_that_asks_for_itself_is_in_no_mean():
    cells = {("a", "a"): 1.0, ("a", "b"): 0.5, ("b", "a"): 0.25}
    (panel,) = arrange_heat([Matrix("", "", "", {"recall@1": cells})], set()).panels
    assert (panel.mean, [row.mean for row in panel.rows], panel.means) == (0.375, [0.5, 0.25], [0.25, 0.5])
    (alone,) = arrange_heat([Matrix("", "", "", {"recall@1": {("a", "a"): 1.0}})], set()).panels
    assert alone.mean == 1


def test_a_line_that_stays_at_1_has_an_axis_from_0():
    assert limits([Series("", [(0, 1.0), (5, 1.0)])]) == (0, 1.1)


def test_long_texts_of_a_table_have_room_on_a_phone(tmp_path):
    table = Table(["a", "b"], [["x" * 25, 1.0], ["y", 1.0]])
    text, _ = page_of(tmp_path / "x.html", sections=[Section("s", "", [table])])
    assert '<td class="long">xxx' in text
    assert '<td class="text">y</td>' in text
