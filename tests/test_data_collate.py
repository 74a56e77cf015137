"""Batches with holes against a plain loop, and what a bad member costs."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tiny_data import holed, members, npy, png, readers, wav, write

from align.data import Shards, collate, join
from align.data.collate import piece
from align.data.meta import group_number, read_meta
from align.data.names import FOREIGN
from align.preprocess import Bytes, Image
from align.seeds import generator
from align.values import BadSample


def sample(i, files, position=None):
    return {"__key__": f"k{i}", "__url__": "a.tar", "__index__": i if position is None else position, **files}


def batch(samples, preprocess=None, *, train=False, seed=0, epoch=0, positions=None, **kwargs):
    positions = list(range(len(samples))) if positions is None else positions
    preprocess = readers() if preprocess is None else preprocess
    return collate(samples, preprocess, positions=positions, train=train, seed=seed, epoch=epoch, **kwargs)


def equal(a, b):
    assert list(a) == list(b)
    for m in a:
        assert torch.equal(a[m].values, b[m].values), m
        assert torch.equal(a[m].sample, b[m].sample), m
    assert torch.equal(a.position, b.position)
    assert (a.ids, a.labels, a.source) == (b.ids, b.labels, b.source)
    for x, y in ((a.group, b.group), (a.weight, b.weight)):
        assert (x is None) == (y is None)
        assert x is None or torch.equal(x, y)


class Counts:
    members: dict = {}  # noqa: RUF012

    def __init__(self):
        self.found = {}

    def count(self, reason, n=1, where=""):
        self.found[reason] = self.found.get(reason, 0) + n


@pytest.mark.parametrize("train", [False, True])
def test_a_batch_with_holes_is_a_plain_loop(train):
    samples = [sample(i, holed(i)) for i in range(12)]
    assert any(len(s) < 9 for s in samples)
    found = batch(samples, train=train, seed=5, epoch=2)
    order = {
        "image": ["image.png"],
        "audio": ["audio.wav"],
        "points": ["points.npy"],
        "text": ["text.txt", "text.neg.txt"],
    }
    for m, reader in readers().items():
        values, owners = [], []
        for i, s in enumerate(samples):
            draws = generator("row", 5, 2, i, m)
            for name in order[m]:
                if name not in s:
                    continue
                for data in s[name].splitlines() if name.endswith("txt") else [s[name]]:
                    x = reader.decode(data)
                    values.append(reader.train(x, draws) if train else reader.eval(x))
                    owners.append(-1 if ".neg." in name else i)
        assert torch.equal(found[m].values, reader.collate(values))
        assert found[m].sample.tolist() == owners
        assert found[m].sample.dtype == torch.int64
    assert found.ids == [
        f"k{i}" if any(f"{m}." in "".join(s) for m in readers()) else "" for i, s in enumerate(samples)
    ]


def test_augmentation_follows_seed_epoch_position_and_modality():
    one = [sample(0, members(0))]
    preprocess = {"image": Image(size=8, crop_scale=(0.1, 0.5))}

    def image(**kwargs):
        return batch(one, preprocess, **{"train": True, "positions": [3], **kwargs})["image"].values

    assert torch.equal(image(), image())
    for other in ({"seed": 1}, {"epoch": 1}, {"positions": [4]}, {"train": False}):
        assert not torch.equal(image(), image(**other))


def test_what_the_json_says():
    about = [
        {"label": "cat", "group": 7, "weight": 2},
        {"label": {"shape": "cone", "size": 3}, "group": "a scene"},
        {"label": ["a", "b"], "weight": 0.5},
        {},
    ]
    found = batch([sample(i, {"image.png": png(i), "json": json.dumps(x).encode()}) for i, x in enumerate(about)])
    assert found.labels == ["cat", {"shape": "cone", "size": 3}, ["a", "b"], None]
    assert found.group is not None
    assert found.group.tolist() == [7, group_number("a scene"), -1, -1]
    assert found.weight is not None
    assert found.weight.tolist() == [2, 1, 0.5, 1]
    assert 0 <= group_number("a scene") < 2**63
    assert group_number("a scene") != group_number("another")
    assert group_number(-1) >= 0
    plain = batch([sample(0, {"image.png": png(0)})])
    assert plain.group is None
    assert plain.weight is None


@pytest.mark.parametrize(
    ("stated", "reason"),
    [
        ('{"weight": 1' + "0" * 400 + "}", "json/weight"),
        ('{"weight": 1e999}', "json/weight"),
        ('{"weight": -0.1}', "json/weight"),
        ('{"weight": 1e300}', "json/weight"),
        ('{"weight": true}', "json/weight"),
        ('{"label": "\\ud800"}', "json/label"),
        ('{"label": {"\\ud800": 1}}', "json/label"),
        ('{"label": ["a", "\\udfff"]}', "json/label"),
        ('{"label": ' + "1" * 5000 + "}", "json/invalid"),
        ("[" * 100_000, "json/invalid"),
    ],
)
def test_what_a_json_cannot_say(stated, reason):
    meta, bad = read_meta({"json": stated.encode()}, FOREIGN)
    assert bad == [reason]
    assert (meta.label, meta.weight) == (None, None)


def test_several_rows_of_a_kind_in_order():
    files = {"image.1.png": png(1), "image.0.png": png(0), "image.png": png(9), "image.neg.png": png(5)}
    found = batch([sample(0, files), sample(1, {"image.png": png(3)})])
    reader = readers()["image"]
    expected = [reader.eval(reader.decode(png(i))) for i in (9, 0, 1, 5, 3)]
    assert torch.equal(found["image"].values, torch.stack(expected))
    assert found["image"].sample.tolist() == [0, 0, 0, -1, 1]


def test_of_two_suffixes_the_preferred_one():
    found = batch([sample(0, {"image.png": png(1), "image.jpg": png(0)})])  # PIL tells by content
    reader = readers()["image"]
    assert torch.equal(found["image"].values[0], reader.eval(reader.decode(png(0))))
    assert found["image"].values.shape[0] == 1


def test_foreign_names_and_a_caption_inside_the_json():
    foreign = sample(0, {"jpg": png(0), "txt": b"one\ncaption\n", "cls": b"7", "json": b'{"caption": "inside"}'})
    found = batch([foreign])
    assert found.labels == [7]
    assert found["image"].values.shape[0] == 1
    assert torch.equal(found["text"].values, Bytes(context=16).collate([Bytes(context=16).eval("one\ncaption")]))
    inside = batch([foreign], members={"text": ["json:caption"], "label": []})
    assert torch.equal(inside["text"].values, Bytes(context=16).collate([Bytes(context=16).eval("inside")]))
    assert inside["image"].values.shape[0] == 0
    assert inside.labels == [None]


BAD = {
    "image": {"image.png": png(0)[:80], "audio.wav": wav(0)},
    "audio": {"audio.wav": b"", "image.png": png(0)},
    "points": {"points.npy": npy(0)[:200], "image.png": png(0)},
    "text": {"text.txt": b"\xff\xfe", "image.png": png(0)},
    "json": {"json": b"{", "image.png": png(0)},
}


@pytest.mark.parametrize("modality", list(BAD))
def test_a_bad_member_costs_its_row_only(modality):
    counts = Counts()
    found = batch([sample(0, members(0)), sample(1, BAD[modality]), sample(2, members(2))], shards=counts)
    good = batch([sample(0, members(0)), None, sample(2, members(2))])
    assert found.ids == ["k0", "k1", "k2"]
    (reason,) = counts.found
    assert reason.startswith(f"{modality}/")
    if modality != "json":
        assert found[modality].sample.tolist() == good[modality].sample.tolist()
        assert torch.equal(found[modality].values, good[modality].values)


def test_a_sample_without_a_row_leaves_its_position_empty():
    counts = Counts()
    found = batch(
        [sample(0, {"image.png": b"x"}), sample(1, {"json": b'{"label": "a", "group": 1}'}), None], shards=counts
    )
    assert found.ids == ["", "", ""]
    assert found.source == ["", "", ""]
    assert found.labels == [None, None, None]
    assert found.group is None
    assert found.position.tolist() == [0, 1, 2]
    assert all(found[m].n == 0 for m in readers())
    assert counts.found["sample/empty"] == 2
    assert len(counts.found) == 2


def test_absent_modalities_have_no_rows_and_their_shape():
    found = batch([sample(0, {"text.txt": b"a"})])
    assert {m: len(found[m].values) for m in found} == {"audio": 0, "image": 0, "points": 0, "text": 1}
    assert found["image"].values.shape == (0, 3, 8, 8)
    empty = batch([])
    assert (empty.size, empty["image"].n) == (0, 0)


def test_blank_lines_and_marks_are_no_captions():
    found = batch([sample(0, {"text.txt": "\ufeffone\r\n\r\n two \n".encode()})])
    reader = Bytes(context=16)
    assert torch.equal(found["text"].values, reader.collate([reader.eval("one"), reader.eval("two")]))


def test_a_member_that_the_preprocess_does_not_read_is_ignored_and_counted():
    counts = Counts()
    found = batch([sample(0, {"image.ppm": b"x", "image.txt": b"/etc/passwd", "audio.wav": wav(0)})], shards=counts)
    assert found["image"].n == 0
    assert counts.found == {"ignored/image.ppm": 1, "ignored/image.txt": 1}


def test_a_bug_in_a_preprocess_is_no_bad_sample():
    class Broken(Image):
        def eval(self, x):
            raise TypeError("a bug")

    with pytest.raises(TypeError) as caught:
        batch([sample(0, {"image.png": png(0)})], {"image": Broken(size=8)})
    assert "a.tar: k0.image.png" in caught.value.__notes__[0]


def test_a_reason_without_a_modality_gets_one():
    class Picky(Image):
        def decode(self, source):
            raise BadSample("ugly")

    counts = Counts()
    batch([sample(0, {"image.png": png(0)})], {"image": Picky(size=8)}, shards=counts)
    assert counts.found["image/ugly"] == 1


@pytest.mark.parametrize(
    "parts", [[[0, 1, 2, 3, 4, 5, 6, 7]], [[0, 2, 4, 6], [1, 3, 5, 7]], [[7, 3], [], [0, 1, 2], [6, 5, 4]]]
)
def test_joined_pieces_are_the_whole(parts):
    samples = [sample(i, holed(i)) for i in range(8)]
    whole = batch(samples, train=True)
    arguments = {"train": True, "seed": 0, "epoch": 0, "members": {}}
    pieces = [piece([samples[i] for i in part], readers(), positions=part, **arguments)[0] for part in parts]
    equal(join(pieces), whole)


def test_join_keeps_a_negative_behind_the_row_it_follows():
    pieces = [batch([sample(i, members(i)) for i in part], positions=part) for part in ([2], [0, 1])]
    equal(join(pieces), batch([sample(i, members(i)) for i in range(3)]))


def test_join_fills_groups_and_weights():
    files = [{"image.png": png(0), "json": b'{"group": 3, "weight": 2}'}, {"image.png": png(1)}]
    pieces = [batch([sample(i, files[i])], positions=[i]) for i in (1, 0)]
    found = join(pieces)
    assert found.group is not None
    assert found.group.tolist() == [3, -1]
    assert found.weight is not None
    assert found.weight.tolist() == [2, 1]
    with pytest.raises(ValueError, match="no pieces"):
        join([])


def test_positions_must_fit():
    with pytest.raises(ValueError, match="1 samples for 2 positions"):
        batch([None], positions=[0, 1])


def test_from_shards_with_members_of_their_own(tmp_path):
    pattern = write(tmp_path, 3, make=lambda i: {"png": png(i), "json": b'{"caption": "hello"}'})
    shards = Shards(pattern, shuffle=False, members={"text": "json:caption"})
    assert shards.modalities == {"image": 3, "text": 3}
    found = batch(list(shards.samples(0)), shards=shards)
    assert found["text"].n == found["image"].n == 3
    assert np.all(found["text"].values.numpy() == found["text"].values[0].numpy())
    assert shards.report() == {}
