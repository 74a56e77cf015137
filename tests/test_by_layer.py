"""Scores against layers and prefixes: each is that of the model which ends there, with rows that are cut."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tiny import npy

from align import JointModel, Tower, evaluate
from align.data import Shards, ShardWriter
from align.encoders import Layered, Series
from align.evaluation import ByLayer
from align.evaluation.by_layer import end_after, list_sizes
from align.model.layers import at_layer
from align.preprocess import Array
from align.values import TermInfo

LAYERS, DIM = [1, 3], 8


def make(layers=True) -> JointModel:
    towers = {}
    for m in ("image", "audio"):
        torch.manual_seed(0)
        encoder = Series(3, 8, 12, 3, 2)
        towers[m] = Tower(Array((3, 8)), Layered(encoder, LAYERS) if layers and m == "image" else encoder)
    model = JointModel(towers, DIM).eval()
    model.towers["audio"].head.load_state_dict(model.towers["image"].head.state_dict())
    model.terms = [TermInfo(("audio", "image"), "pairwise", 10.0, prefixes=(2, 8))]
    return model


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Shards:
    folder = tmp_path_factory.mktemp("shards")
    draw = torch.Generator().manual_seed(3)
    with ShardWriter(folder, "test") as writer:
        for i in range(12):
            x = torch.randn(3, 8, generator=draw)
            writer.write(f"{i:03d}", {"image.npy": npy(x.numpy()), "audio.npy": npy((x + 0.1).numpy())})
    return Shards(str(folder / "*.tar"), shuffle=False)


def test_a_score_is_that_of_the_cut_rows_of_the_model_that_ends_there(shards):
    model = make()
    results = evaluate(model, shards, with_=[ByLayer()], draws=0)
    samples = [shards.read(i)[0] for i in range(12)]
    found = {}
    for layer in LAYERS:
        ended = at_layer(model, layer, "image")
        rows = {m: ended.embed(**{m: [s[f"{m}.npy"] for s in samples]})[m] for m in model.modalities}
        for size in (2, 8):
            a, b = (F.normalize(rows[m][:, :size], dim=1) for m in ("image", "audio"))
            for (x, y), name in (((a, b), "image_to_audio"), ((b, a), "audio_to_image")):
                cosines = x @ y.T
                right = sum(int(all(row[j] < row[i] for j in range(12) if j != i)) for i, row in enumerate(cosines))
                found[f"layers/{layer}/{size}/{name}/recall@1"] = right / 12
    assert {name: results.scores[name] for name in found} == pytest.approx(found)
    assert len({*found.values()}) > 2
    (section,) = [one for one in results.sections if one.title == "Layers and sizes"]
    (table,) = section.blocks
    assert table.head == ("score", "layer", "2 numbers", "8 numbers")
    for name, layer, *values in table.rows:
        assert values == [results.scores[f"layers/{layer}/{size}/{name}"] for size in (2, 8)]
    assert results.protocol["layers"] == LAYERS
    assert results.protocol["sizes"] == [2, 8]


def test_sizes_are_prefixes_of_all_terms_and_towers_without_a_layer_stay_whole():
    model = make()
    model.terms = [TermInfo(("a", "b"), "pairwise", 1.0, prefixes=p) for p in ((2, 4, 8), (4, 8))]
    assert list_sizes(model) == [4, 8]
    model.terms = []
    assert list_sizes(model) == [8]
    assert end_after(model, 2) is model
    assert end_after(model, 1).towers["audio"] is model.towers["audio"]


def test_a_model_of_one_depth_is_refused_in_one_line(shards):
    with pytest.raises(ValueError, match=r"no tower's encoder is align\.encoders\.Layered") as error:
        evaluate(make(layers=False), shards, with_=["layers"])
    assert "\n" not in str(error.value)
