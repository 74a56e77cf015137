"""A model that replaces an earlier one: declared, measured against plain loops, and its rows in the earlier index."""

from __future__ import annotations

import json
import math
import shutil

import pytest
import tiny_space
import torch
import torch.nn.functional as F

import align
from align.checkpoint import declare_compatible, load, save
from align.checkpoint.fingerprint import fingerprint
from align.checkpoint.sums import find_damage, write_sums
from align.commands import main
from align.data import Shards
from align.embedding.tables import vectors
from align.evaluation import Compatibility, Space
from align.evaluation.compatibility import ROLES
from align.heads import Linear
from align.model import JointModel, Tower
from align.preprocess import Array, Bytes
from align.search.building import add_to_index, build_index
from align.search.building.maker import count_by_maker
from align.search.local import LocalIndex
from align.search.makers import cut_rows, find_stranger, list_makers

D = tiny_space.D
trust = ["--allow", "tiny_space"]


def later(seed: int = 1, extra: int = 3, noise: float = 0.0) -> JointModel:
    """A model whose first D coordinates are the earlier model's, up to noise, with others behind."""
    draw = torch.Generator().manual_seed(seed)
    towers = {
        "image": Tower(Array([D]), tiny_space.Straight(), Linear),
        "text": Tower(Bytes(context=32), tiny_space.Letters(), Linear),
    }
    model = JointModel(towers, D + extra).eval()
    with torch.no_grad():
        for tower in towers.values():
            behind = torch.randn(extra, D, generator=draw)
            before = torch.eye(D) + noise * torch.randn(D, D, generator=draw)
            head = tower.head
            assert isinstance(head, Linear)
            head.project.weight.copy_(torch.cat([before, behind]))
    return model


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    samples = list(tiny_space.world(30, noise=0.6).items())
    for i, part in enumerate((samples[:18], samples[18:])):
        tiny_space.write_tar(folder / f"test-{i:06d}.tar", dict(part))
    return folder


def test_a_declaration_is_in_the_folder_and_comes_back(tmp_path):
    old, new = tiny_space.model(), later()
    save(old, tmp_path / "old")
    save(new, tmp_path / "new")
    assert "compatible_with" not in json.loads((tmp_path / "new/model.json").read_text())
    assert declare_compatible(tmp_path / "new", new, old) == D
    again = load(tmp_path / "new", allow=["tiny_space"])
    assert again.compatible_with == new.compatible_with == {fingerprint(old): D}
    save(again, tmp_path / "copy")
    assert load(tmp_path / "copy", allow=["tiny_space"]).compatible_with == {fingerprint(old): D}
    assert declare_compatible(tmp_path / "new", new, later(2), 5) == 5
    assert load(tmp_path / "new", allow=["tiny_space"]).compatible_with == {
        fingerprint(old): D,
        fingerprint(later(2)): 5,
    }
    (tmp_path / "copy/training").mkdir()
    write_sums(tmp_path / "copy")  # a checkpoint of a run
    declare_compatible(tmp_path / "copy", again, old, 4)
    assert find_damage(tmp_path / "copy") is None
    assert load(tmp_path / "copy", allow=["tiny_space"]).compatible_with == {fingerprint(old): 4}


def test_a_wrong_declaration_is_one_line_and_changes_nothing(tmp_path):
    old, new = tiny_space.model(), later()
    save(new, tmp_path / "new")
    before = (tmp_path / "new/model.json").read_bytes()
    alone = JointModel({"touch": Tower(Array([D]), tiny_space.Straight(), Linear)}, D)
    for model, dims, words in (
        (new, None, "are one model"),
        (alone, None, "share no modality: image, text here, touch there"),
        (old, D + 1, "9 coordinates cannot be compared: .* has 11, the earlier model 8; dims is 1 to 8"),
        (old, 0, "0 coordinates cannot be compared"),
        (later(2, extra=9), None, "17 coordinates cannot be compared"),
    ):
        with pytest.raises(ValueError, match=words):
            declare_compatible(tmp_path / "new", new, model, dims)
    with pytest.raises(ValueError, match="holds another model than"):
        declare_compatible(tmp_path / "new", later(2), old)
    assert (tmp_path / "new/model.json").read_bytes() == before
    for wrong in ([{"sha256": "a", "dims": 12}], [{"sha256": "a", "dims": 0}], [{"dims": 1}], ["a"], 3):
        about = json.loads(before) | {"compatible_with": wrong}
        (tmp_path / "new/model.json").write_text(json.dumps(about))
        with pytest.raises(ValueError, match="compatible_with lists sha256 and dims, 1 to 11; got"):
            load(tmp_path / "new", allow=["tiny_space"])


def precision(scores: list[float], hits: list[bool]) -> float | None:
    """Average precision of one list, ties against us: a hit comes after all others of its score."""
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], hits[i]))
    found, total = 0, 0.0
    for place, i in enumerate(order, 1):
        if hits[i]:
            found += 1
            total += found / place
    return total / found if found else None


def test_the_evaluator_is_the_plain_loop_over_queries(shards):
    old, new = tiny_space.model(), later(noise=0.4)
    space = Space(new, Shards(f"{shards}/*.tar", shuffle=False), draws=20)
    found = Compatibility(old, "before").run(space)
    tables = {"new": space.table(), "old": space.of_model(old).table()}
    labels = [(label or {}).get("kind") for label in tables["new"].labels]
    for query in ("image", "text"):
        for of in ("image", "text"):
            means = {}
            for asks, answers in ROLES:
                rows = {}
                for role, m, modality in (("q", asks, query), ("c", answers, of)):
                    x = vectors(tables[m], modality).double()
                    x = x[:, :D] if asks != answers else x
                    rows[role] = F.normalize(x, dim=1)
                sample_q, sample_c = tables["new"][query].sample.tolist(), tables["new"][of].sample.tolist()
                known = tables["new"][of].content
                assert known is not None
                content = known.tolist()
                values = []
                for i, s in enumerate(sample_q):
                    kept = [
                        j for j in range(len(sample_c))
                        if query != of or (j != i and content[j] != content[i])
                    ]  # fmt: skip
                    scores = [float((rows["q"][i] @ rows["c"][j]).float()) for j in kept]
                    hits = [labels[s] is not None and labels[sample_c[j]] == labels[s] for j in kept]
                    if (value := precision(scores, hits)) is not None:
                        values.append(value)
                means[asks, answers] = sum(values) / len(values)
                name = f"compatibility/kind/{query}_to_{of}/{asks}_to_{answers}"
                assert found.scores[f"{name}/map"] == pytest.approx(means[asks, answers], abs=1e-9), name
                assert len(found.samples[f"{name}/map"][0]) == len(values)
                low, high = found.intervals[f"{name}/recall@1"]
                assert low <= found.scores[f"{name}/recall@1"] <= high
            before, mixed, after = means["old", "old"], means["new", "old"], means["new", "new"]
            name = f"compatibility/kind/{query}_to_{of}"
            assert found.scores[f"{name}/criterion"] == float(mixed > before)
            if after > before:
                assert found.scores[f"{name}/gain"] == pytest.approx((mixed - before) / (after - before))
            else:
                assert f"{name}/gain" not in found.scores
    facts = found.protocol["compatibility"]
    assert (facts["dims"], facts["declared"], facts["old"]["name"]) == (D, None, "before")
    assert found.protocol["notes"] == []
    assert found.section is not None
    assert len(found.section.blocks) == 2
    assert sum(name.endswith("/criterion") for name in found.scores) == 8


def test_rows_that_one_model_lacks_are_left_out_and_equal_models_tie(shards):
    """The same model as old and new: every role is the same, and no criterion is met. A sound has no new tower."""
    old = tiny_space.model()
    found = Compatibility(old).run(Space(old, Shards(f"{shards}/*.tar", shuffle=False), draws=0))
    for name in ("image_to_text", "audio_to_audio"):
        same = {found.scores[f"compatibility/kind/{name}/{a}_to_{b}/map"] for a, b in ROLES}
        assert max(same) - min(same) < 1e-12
        assert found.scores[f"compatibility/kind/{name}/criterion"] == 0
    swapped = Compatibility(old).run(Space(later(), Shards(f"{shards}/*.tar", shuffle=False), draws=0))
    assert not any("audio" in name for name in swapped.scores)
    assert {name.split("/")[1] for name in swapped.scores} == {"half", "kind"}  # several attributes
    note = Compatibility(JointModel({"text": old.towers["text"]}, D).eval())
    notes = note.run(Space(later(), Shards(f"{shards}/*.tar", shuffle=False), draws=0)).protocol["notes"]
    assert notes == ["compatibility: old has no tower for image: it is not compared"]


def test_the_declared_coordinates_are_those_that_are_read(shards):
    old, new = tiny_space.model(), later(noise=0.4)
    space = Space(new, Shards(f"{shards}/*.tar", shuffle=False), draws=0)
    new.compatible_with = {fingerprint(old): 3}
    declared, stated = Compatibility(old).run(space), Compatibility(old, dims=3).run(space)
    assert declared.scores == stated.scores
    assert declared.protocol["compatibility"]["declared"] == 3
    assert Compatibility(old, dims=D).run(space).scores != stated.scores


def test_an_evaluation_that_cannot_be_is_one_line(shards, tmp_path, capsys):
    space = Space(tiny_space.model(), Shards(f"{shards}/*.tar", shuffle=False), draws=0)
    alone = JointModel({"touch": Tower(Array([D]), tiny_space.Straight(), Linear)}, D)
    for evaluator, words in (
        (Compatibility(), "compares with an earlier model"),
        (Compatibility(alone), "share no modality to compare"),
        (Compatibility(later()), "the old one has 11, the new one 8"),
        (Compatibility(tiny_space.model(), dims=9), "dims is 9"),
    ):
        with pytest.raises(ValueError, match=words):
            evaluator.run(space)
    save(tiny_space.model(), tmp_path / "old")
    capsys.readouterr()
    args = ["evaluate", str(tmp_path / "old"), f"{shards}/*.tar", *trust]
    for more, code, words in (
        (["--with", "compatibility"], 2, "name it: --old MODEL"),
        (["--with", "retrieval", "--old", "x"], 2, "--old is an option of the evaluator compatibility"),
        (["--with", "compatibility", "--old", str(tmp_path / "none")], 1, "--old: no model folder"),
    ):
        assert main([*args, *more]) == code
        err = capsys.readouterr().err
        assert words in err
        assert err.count("\n") == 1


@pytest.fixture
def indexed(shards, tmp_path):
    """An index of the earlier model's rows of the first shard, with the folders old and new beside it."""
    old, new = tiny_space.model(), later()
    save(old, tmp_path / "old")
    save(new, tmp_path / "new")
    build_index(old, f"{shards}/test-000000.tar", tmp_path / "i", source=str(tmp_path / "old"))
    return tmp_path, old, new


def test_a_new_model_asks_the_old_index(indexed):
    """Its first coordinates are the earlier model's, so it finds what that one finds."""
    folder, old, new = indexed
    with pytest.raises(ValueError, match=r"made by another model .*or declare a model that was trained to replace it"):
        align.open_index(folder / "i", new)
    declare_compatible(folder / "new", new, old)
    query = {"text": "bbb c"}
    expected = align.open_index(folder / "i", old).search(query, of="image", k=18)
    found = align.open_index(folder / "i", folder / "new", allow=["tiny_space"]).search(query, of="image", k=18)
    assert [hit.sample for hit in found.hits] == [hit.sample for hit in expected.hits]
    assert [hit.score for hit in found.hits] == pytest.approx([hit.score for hit in expected.hits], abs=1e-6)
    new.compatible_with = {fingerprint(old): D - 1}  # fewer than the rows have
    with pytest.raises(ValueError, match="made by another model"):
        align.open_index(folder / "i", new)


def test_an_index_of_two_models_says_which_row_is_which(indexed, shards, capsys):
    folder, old, new = indexed
    index, two = folder / "i", f"{shards}/test-000001.tar"
    files = {p: p.read_bytes() for p in sorted(index.rglob("*")) if p.is_file()}
    with pytest.raises(ValueError, match=r"is not declared compatible with it; make another index, or, .*align compat"):
        add_to_index(new, two, index)
    assert {p: p.read_bytes() for p in sorted(index.rglob("*")) if p.is_file()} == files
    assert main(["compatible", str(folder / "new"), str(folder / "old"), *trust]) == 0
    assert "the first 8 coordinates compare with" in capsys.readouterr().out
    assert main(["index", "add", str(index), two, "--model", str(folder / "new"), *trust]) == 0
    with LocalIndex.open(index) as opened:
        counts = count_by_maker(opened)
        shard_of = {int(n): item.source["shard"] for n in opened.numbers() for item in opened.items([int(n)])}
        rows = opened.rows("image", counts[1]["numbers"])
        assert opened.about["model"]["sha256"] == fingerprint(old)
    assert [(one["sha256"], len(one["numbers"])) for one in counts] == [(fingerprint(old), 18), (fingerprint(new), 12)]
    for one, part in zip(counts, ("test-000000.tar", "test-000001.tar"), strict=True):
        assert {shard_of[int(n)].rpartition("/")[2] for n in one["numbers"]} == {part}
    assert counts[1]["source"] == str(folder / "new")
    assert counts[1]["dims"] == D
    assert counts[0]["modalities"] == {"audio": 17, "image": 17, "text": 18}
    assert counts[1]["modalities"] == {"audio": 0, "image": 12, "text": 12}
    table = Space(new, Shards(two, shuffle=False), draws=0).table()
    torch.testing.assert_close(rows.values, F.normalize(vectors(table, "image")[:, :D], dim=1))
    capsys.readouterr()
    assert main(["index", "show", str(index)]) == 0
    out = capsys.readouterr().out
    assert f"18 samples by {folder / 'old'} ({fingerprint(old)[:12]}): 17 audio, 17 image, 18 text" in out
    assert f"12 samples by {folder / 'new'} ({fingerprint(new)[:12]}): 0 audio, 12 image, 12 text" in out
    assert main(["index", "check", str(index)]) == 0
    for model in (old, load(folder / "new", allow=["tiny_space"])):  # either asks for all rows
        assert len(align.open_index(index, model).search({"text": "ccc"}, of="image", k=40).hits) == 29
    assert main(["index", "add", str(index), "--model", str(folder / "new"), *trust]) == 0
    assert main(["index", "add", str(index), "--model", str(folder / "old"), *trust]) == 0
    with LocalIndex.open(index, write=True) as opened:  # nothing has changed, and a deleted sample counts no more
        assert [len(one["numbers"]) for one in count_by_maker(opened)] == [18, 12]
        opened.delete([opened.items([int(counts[1]["numbers"][0])])[0].key])
        assert [len(one["numbers"]) for one in count_by_maker(opened)] == [18, 11]


def test_a_third_model_needs_both(indexed, shards):
    folder, old, new = indexed
    new.compatible_with = {fingerprint(old): D}
    add_to_index(new, f"{shards}/test-000001.tar", folder / "i", source="new")
    third = later(5, extra=6)
    shutil.copy(shards / "test-000001.tar", folder / "more.tar")
    add_to_index(new, folder / "more.tar", folder / "i", source="new")  # a second time, by the same model
    with LocalIndex.open(folder / "i") as index:
        about = dict(index.about)
    assert [one["sha256"] for one in list_makers(about)] == [fingerprint(old), fingerprint(new)]
    for declared, stranger in (
        ({}, old),
        ({fingerprint(old): D}, new),
        ({fingerprint(new): D + 3}, old),
        ({fingerprint(old): D, fingerprint(new): D - 1}, new),
        ({fingerprint(old): D, fingerprint(new): D + 3}, None),
    ):
        third.compatible_with = declared
        found = find_stranger(about, third)
        assert (found or {}).get("sha256") == (None if stranger is None else fingerprint(stranger))


def test_rows_are_cut_and_have_the_length_one_again():
    x = torch.tensor([[3.0, 4.0, 12.0], [0.0, 0.0, 1.0]])
    assert cut_rows(x, 2, normalize=True).tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0, 0]]
    assert cut_rows(x, 2, normalize=False).tolist() == [[3, 4], [0, 0]]
    assert cut_rows(x, None, normalize=True) is x
    assert math.isclose(float(cut_rows(x[0], 1, normalize=True)), 1.0)
