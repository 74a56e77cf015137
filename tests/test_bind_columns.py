"""Bindings from caches to model folders: heads, split, matching, sweeps, the command, and one line for bad input."""

import json
import shutil

import pytest
import torch
import torch.nn.functional as F
from made_columns import made_cache, made_model, made_shards

from align import JointModel, Tower
from align.bind import Plan, average_models, bind_columns, fit_heads, make_model, open_pairs, sum_moments
from align.bind.matching import embed
from align.bind.pairing import hold_out, order_samples
from align.checkpoint import load, save
from align.commands import main
from align.data import Concat, Shards
from align.data.columns import Columns
from align.embedding.assemble import assemble
from align.encoders import Precomputed, Vector
from align.heads import Average, Centered, Identity, Linear
from align.lit.centroids import fill_centroids
from align.preprocess import Array
from align.values import TermInfo


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with the model m, the cache c of 160 samples' features and embeddings, and d of 80 others in groups."""
    folder = tmp_path_factory.mktemp("world")
    model = made_model(folder / "m")
    paths = made_shards(folder / "s")
    made_cache(folder / "c", model, paths)
    made_cache(folder / "c", model, paths, name="ready", features=False)
    made_cache(folder / "d", model, made_shards(folder / "t", n=80, shards=1, group=True, seed=1))
    return folder


@pytest.fixture
def here(world, monkeypatch):
    monkeypatch.chdir(world)
    return world


def columns(world, *names, cache="c", name="net"):
    return [f"{world / cache / name}:{m}" for m in names]


def live(model, modality, world, folder="s"):
    """Features of every row of the shards, with the number of its sample."""
    shards = Shards(str(world / folder / "*.tar"), shuffle=False)
    tower, rows, owner = model.towers[modality], [], []
    for i in range(len(shards)):
        for member, value in shards.read(i)[0].items():
            if member.partition(".")[0] == modality:
                rows.append(tower.preprocess.row(value))
                owner.append(i)
    with torch.no_grad():
        return tower.features(tower.preprocess.collate(rows)).pooled, owner


def test_rows_are_the_towers_and_samples_have_one_number_in_all_pairs(world):
    model = load(world / "m")
    opened = open_pairs(columns(world, "image", "audio", "text"))
    assert opened.anchor == "text"
    for pair in opened.pairs:
        for side, modality in ((pair.rows, pair.modality), (pair.anchor, "text")):
            rows, owner = live(model, modality, world)
            assert side.sample.tolist() == owner
            torch.testing.assert_close(side.values, rows, rtol=1e-5, atol=1e-5)
            assert (side.group == -1).all()
    assert opened.shard.tolist() == [0] * 80 + [1] * 80
    assert len(set(opened.units)) == 160


def test_two_caches_share_an_anchor_of_one_tower(world):
    given = columns(world, "image", "text") + columns(world, "audio", "text", cache="d")
    opened = open_pairs(given, via="text")
    image, audio = opened.pairs
    assert image.rows.sample.max() == 159
    assert audio.rows.sample.tolist() == list(range(160, 240))
    assert (audio.rows.group >= 0).all()
    assert sum(unit.startswith("group") for unit in opened.units) == 80
    bound = bind_columns(opened, Plan("ridge"))
    assert [(m.query, m.answer) for m in bound.matches] == [
        ("image", "text"),
        ("text", "image"),
        ("audio", "text"),
        ("text", "audio"),
    ]  # no sample or group in common: no emergent matching


def test_a_binding_is_its_parts_put_together(world):
    opened = open_pairs(columns(world, "image", "text"))
    bound = bind_columns(opened, Plan("cca", dim=4, seed=3))
    held = hold_out(order_samples(opened.units, 3)[torch.arange(160) != 1], 0.2)  # sample 1 has no picture
    numbers = torch.arange(160)[torch.arange(160) != 1]
    x, y = opened.pairs[0].rows, opened.pairs[0].anchor
    texts = torch.stack([y.values[y.sample == n].double().mean(0) for n in numbers])  # sample 2 has two texts
    fitted = fit_heads({"image": sum_moments(x.values[~held], texts[~held])}, "text", "cca", dim=4)
    for m, head in fitted.heads.items():
        for name, value in head.state_dict().items():
            torch.testing.assert_close(bound.fitted.heads[m].state_dict()[name], value, rtol=1e-4, atol=1e-4)
    assert (bound.train["image"], bound.held["image"]) == (159 - 32, 32)
    a = F.normalize(fitted.heads["image"].project(x.values[held].float()), dim=-1)
    b = F.normalize(fitted.heads["text"].project(texts[held].float()), dim=-1)
    right = 0
    for i, scores in enumerate((a.double() @ b.double().T).float().tolist()):
        right += not [j for j, s in enumerate(scores) if j != i and s >= scores[i]]
    assert bound.matches[0].accuracy == pytest.approx(right / 32, abs=0.04)
    assert bound.matches[0].chance == pytest.approx(1 / 32)


def test_each_row_of_a_sample_may_count(world):
    opened = open_pairs(columns(world, "image", "text"))
    mean, each = (bind_columns(opened, Plan("ridge", rows=rows, val="part-000001.tar")) for rows in ("mean", "each"))
    assert (mean.train["image"], each.train["image"]) == (79, 80)  # sample 2 has two texts
    assert mean.held == each.held == {"image": 80}


def test_groups_of_held_out_shards_are_not_fitted_on(world, tmp_path):
    shards = made_shards(tmp_path / "s", n=90, shards=2, group=True)
    made_cache(tmp_path / "c", world / "m", shards)
    opened = open_pairs(columns(tmp_path, "image", "text"))
    bound = bind_columns(opened, Plan("ridge", val="*1.tar"))
    units = opened.units
    held = {units[i] for i in range(45, 90)}
    kept = [i for i in range(45) if units[i] not in held and i != 1]
    assert bound.train["image"] == len(kept)
    assert bound.left == 44 - len(kept)
    assert bound.matches[0].chance > 1 / 45  # rows of one group are right answers


def test_sweeps_use_nested_pairs_and_the_same_held_out_samples(world):
    opened = open_pairs(columns(world, "image", "text"))
    bound = bind_columns(opened, Plan("cca", dim=8, sweep={"dim": [2, 8], "pairs": [20, 127]}))
    assert bound.sweeps["dim"][8] == bound.matches == bound.sweeps["pairs"][127]
    assert bound.sweeps["dim"][2] != bound.matches
    again = bind_columns(opened, Plan("cca", dim=8, pairs=20))
    assert again.matches == bound.sweeps["pairs"][20]
    assert again.train == {"image": 20}


def raw(world, modality, n=5):
    shards = Shards(str(world / "s/*.tar"), shuffle=False)
    found = [[v for k, v in sorted(shards.read(i)[0].items()) if k.startswith(modality)] for i in range(3, 3 + n)]
    return [rows[0] for rows in found]


@pytest.mark.parametrize(("name", "how"), [("net", "ridge"), ("ready", "ridge"), ("ready", "shift"), ("net", "cca")])
def test_the_model_embeds_raw_inputs_as_its_heads_embed_the_cache(world, name, how):
    opened = open_pairs(columns(world, "image", "text", name=name))
    bound = bind_columns(opened, Plan(how))
    made = make_model(opened, bound.fitted)
    assert made.notes == []
    path = save(made.model, world / f"out-{name}-{how}")
    model = load(path)
    found = model.embed(image=raw(world, "image"))["image"]
    rows = opened.pairs[0].rows
    torch.testing.assert_close(
        found.double(), embed(bound.fitted.heads["image"], rows.values[2:7]), rtol=1e-4, atol=1e-4
    )  # sample 1 has no picture
    shutil.rmtree(path)


def test_an_absent_model_leaves_heads_over_the_cache(world):
    opened = open_pairs(columns(world, "image", "text"))
    for pair in opened.pairs:
        pair.column.reader.model = "/nowhere/m"
    made = make_model(opened, bind_columns(opened, Plan("ridge")).fitted)
    assert isinstance(made.model.towers["image"].encoder, Precomputed)
    assert made.notes[0] == (
        "image: the model /nowhere/m is not here, so the tower reads cached rows; align assemble completes it"
    )
    assert made.model.embed(image=[torch.zeros(24)])["image"].shape == (1, 32)
    base = load(world / "m")
    whole = assemble(made.model, {"m": base})
    assert isinstance(whole.towers["image"].encoder, Vector)
    found = whole.embed(image=raw(world, "image"))["image"].double()
    wanted = embed(made.model.towers["image"].head, opened.pairs[0].rows.values[2:7])
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_a_kept_anchor_brings_the_other_towers_of_its_model(world):
    base = load(world / "m")
    base.terms = [TermInfo(("image", "text"), "pairwise", 20.0)]
    save(base, world / "based")
    opened = open_pairs([*columns(world, "audio", name="net"), *columns(world, "text", name="ready")])
    for pair in opened.pairs:
        pair.anchor_column.reader.model = str(world / "based")
    bound = bind_columns(opened, Plan("ridge", keep_anchor=True))
    made = make_model(opened, bound.fitted, keep_anchor=True).model
    assert sorted(made.modalities) == ["audio", "image", "text"]
    assert made.terms == base.terms
    for m in ("image", "text"):
        torch.testing.assert_close(made.embed(**{m: raw(world, m)})[m], base.embed(**{m: raw(world, m)})[m])
    moved = make_model(opened, bind_columns(opened, Plan("ridge")).fitted).model
    assert sorted(moved.modalities) == ["audio", "text"]


def test_a_model_with_other_weights_is_refused(world, tmp_path):
    other = made_model(tmp_path / "other", seed=5)
    opened = open_pairs(columns(world, "image", "text"))
    fitted = bind_columns(opened, Plan("ridge")).fitted
    for pair in opened.pairs:
        pair.column.reader.model = str(other)
    with pytest.raises(ValueError, match=r"made with other weights of image than .*other has now: \w{12} and \w{12}"):
        make_model(opened, fitted)


def test_the_command_writes_a_model_its_results_and_a_page(here, capsys):
    assert main(["bind", "c/net:image", "c/net:audio", "c/net:text", "--out", "bound", "--sweep", "dim=2,8"]) == 0
    out = capsys.readouterr().out
    assert "By dim: top-1" in out
    assert "image and audio were never paired with each other: their matching is emergent" in out
    assert "ridge of 32 numbers on" in out
    results = json.loads((here / "bound/bind.json").read_text())
    assert results["image_to_text/matching@1"] > 2 * results["image_to_text/chance"]
    assert results["audio_to_image/matching@1"] > 2 * results["audio_to_image/chance"]
    assert set(results["protocol"]["sweeps"]["dim"]) == {"2", "8"}
    assert results["protocol"]["samples held out"] == {"image": 32, "audio": 32}
    page = (here / "bound/bind.html").read_text()
    assert "By dim" in page
    assert "image → text" in page
    assert "by their names in bind.json" in page
    assert "results.json" not in page
    assert "Command, columns, anchor, how, dim, anchor kept and" in page
    model = load("bound")
    assert isinstance(model.towers["text"].head, Centered)
    assert main(["bind", "c/net:image", "c/net:text", "--out", "bound", "--how", "cca", "--json"]) == 0  # anew
    assert json.loads(capsys.readouterr().out)["protocol"]["how"] == "cca"
    shutil.rmtree("bound")


@pytest.mark.parametrize(
    ("args", "message", "code"),
    [
        (["c/net:image"], "a column to bind is needed beside c/net:image", 1),
        (["c/net:image", "c/net:text", "--via", "txt"], "via names 'txt', which no column has", 1),
        (["c/net:image", "c/net:txt"], "c/net has no column 'txt'; did you mean text?", 1),
        (["c/nat:image", "c/net:text"], "c has no set 'nat'; did you mean net?", 1),
        (["x/net:image", "c/net:text"], "no cache x (it has no cache.json)", 1),
        (["c/net:image", "d/net:text"], "has no shard part-000001.tar", 1),
        (["d/net:image", "d/net:audio", "c/net:text", "--via", "text"], "were made of different shards", 1),
        (["c/net:image", "c/net:image", "c/net:text"], "two columns have the modality image", 1),
        (
            ["c/net:image", "c/ready:text", "d/net:audio", "d/net:text", "--via", "text"],
            "come from two towers: weights",
            1,
        ),
        (["c/net:image", "c/net:text", "--how", "rigde"], "--how: there is no method 'rigde'; did you mean ridge?", 2),
        (["c/net:image", "c/net:text", "--how", "shift"], "image has 24 numbers a row and text 32; take ridge", 1),
        (["c/net:image", "c/net:text", "--how", "cca", "--dim", "25"], "dim is 1 to 24", 1),
        (["c/net:image", "c/net:text", "--pairs", "500"], "pairs is 1 to 127, the samples of image to fit on", 1),
        (
            ["c/net:image", "c/net:text", "--how", "procrustes", "--pairs", "9"],
            "needs 25 pairs at least, there are 9",
            1,
        ),
        (["c/net:image", "c/net:text", "--val", "1"], "the share of held-out samples is between 0 and 1; got 1", 1),
        (["c/net:image", "c/net:text", "--val", "test*"], "val 'test*' is none of the shards part-000000.tar", 1),
        (["c/net:image", "c/net:text", "--sweep", "dims=2"], "there is no 'dims' to sweep; did you mean dim?", 2),
        (["c/net:image", "c/net:text", "--sweep", "dim=a"], "--sweep takes dim=8,16,32, not 'dim=a'", 2),
        (["c/net:image", "c/net:text", "--out", "s"], "s is there and is no model folder", 1),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(here, capsys, args, message, code):
    given = args if "--out" in args else [*args, "--out", "none"]
    assert main(["bind", *given]) == code
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not (here / "none").exists()


def test_a_flipped_byte_is_one_line(world, tmp_path, capsys):
    shutil.copytree(world / "c", tmp_path / "c")
    part = tmp_path / "c/net/part-000001.tar"
    content = bytearray(part.read_bytes())
    content[5000] ^= 1
    part.write_bytes(content)
    assert main(["bind", *columns(tmp_path, "image", "text"), "--out", str(tmp_path / "out")]) == 1
    assert "part-000001.tar is damaged: a block has another checksum than its record" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def centered(d, head=Linear):
    towers = {
        "text": Tower(None, Precomputed(32), lambda w, d: Centered(w, d, head)),
        "image": Tower(None, Precomputed(24), Linear),
    }
    return JointModel(towers, d)


def test_a_centroid_is_the_mean_of_the_training_rows(world):
    train = Columns({m: f"{world}/c/net:{m}" for m in ("text", "image")})
    model = centered(4)
    assert fill_centroids(model, train) == ["text"]
    rows = open_pairs(columns(world, "image", "text")).pairs[0].anchor.values
    torch.testing.assert_close(model.towers["text"].head.centroid, rows.mean(0))
    assert int(model.towers["text"].head.count) == 161
    assert fill_centroids(model, train) == []
    other = Columns({"text": f"{world}/d/net:text"})
    both = Concat({"a": train, "b": other})
    model = centered(4)
    fill_centroids(model, both)
    assert int(model.towers["text"].head.count) == 161 + 81
    with pytest.raises(ValueError, match=r"the head subtracts a centroid, and data.train has no column of text"):
        fill_centroids(centered(4), Columns({"image": f"{world}/c/net:image"}))


@pytest.mark.slow
def test_a_training_fills_the_centroid_before_its_first_step(world, tmp_path, capsys):
    config = {
        "trainer": {"max_steps": 2},
        "data": {"train": {"columns": {m: f"{world}/c/net:{m}" for m in ("text", "image")}}, "batch": 40, "workers": 0},
        "objective": {"terms": {"clip": {"loss": "align.losses.InfoNCE", "between": ["image", "text"]}}},
        "model": {
            "dim": 4,
            "towers": {
                "image": {"encoder": {"class_path": "align.encoders.Precomputed", "init_args": {"width": 24}}},
                "text": {
                    "encoder": {"class_path": "align.encoders.Precomputed", "init_args": {"width": 32}},
                    "head": {"class_path": "align.heads.Centered", "init_args": {"head": "align.heads.MLP"}},
                },
            },
        },
    }
    (tmp_path / "c.yaml").write_text(json.dumps(config))
    assert main(["train", "--config", str(tmp_path / "c.yaml"), "--run", str(tmp_path / "run")]) == 0
    rows = open_pairs(columns(world, "image", "text")).pairs[0].anchor.values
    head = load(tmp_path / "run").towers["text"].head
    torch.testing.assert_close(head.centroid, rows.mean(0))


def run_of(seed, head=Linear, dim=4):
    torch.manual_seed(seed)
    towers = {
        "image": Tower(Array([6]), Precomputed(6), head),
        "text": Tower(Array([dim]), Precomputed(dim), Identity),
    }
    model = JointModel(towers, dim).eval()
    model.terms = [TermInfo(("image", "text"), "pairwise", 10.0 + seed)]
    return model


def test_averaged_models_are_saved_and_embed_the_mean_direction(tmp_path, capsys):
    models = [run_of(seed) for seed in range(3)]
    for seed, model in enumerate(models):
        save(model, tmp_path / f"r{seed}")
    assert main(["bind", "average", *(str(tmp_path / f"r{i}") for i in range(3)), "--out", str(tmp_path / "out")]) == 0
    assert "averaged the heads of image of 3 models" in capsys.readouterr().out
    made = load(tmp_path / "out")
    assert isinstance(made.towers["image"].head, Average)
    assert isinstance(made.towers["text"].head, Identity)
    assert made.terms == [TermInfo(("image", "text"), "pairwise", 11.0)]
    x = [torch.randn(6) for _ in range(5)]
    wanted = F.normalize(sum(model.embed(image=x)["image"] for model in models), dim=-1)
    torch.testing.assert_close(made.embed(image=x)["image"], wanted)


def test_a_weight_mixes_the_features_in(tmp_path):
    models = {f"r{seed}": run_of(seed, dim=6) for seed in range(2)}
    x = [torch.randn(6) for _ in range(5)]
    heads = F.normalize(sum(model.embed(image=x)["image"] for model in models.values()), dim=-1)
    wanted = F.normalize(0.9 * heads + 0.1 * F.normalize(torch.stack(x), dim=-1), dim=-1)
    torch.testing.assert_close(average_models(models, 0.9).embed(image=x)["image"], wanted)


@pytest.mark.parametrize(
    ("change", "weight", "message"),
    [
        (lambda: run_of(0), 1.0, "a and b have the same heads; there is nothing to average"),
        (lambda: run_of(1, dim=5), 1.0, "b has dim 5, a has 4; only heads may differ"),
        (lambda: run_of(1), 0.9, "features of image in, which have 6 numbers and the joint space 4"),
    ],
)
def test_models_that_differ_in_more_than_their_heads_are_refused(change, weight, message):
    with pytest.raises(ValueError, match=message):
        average_models({"a": run_of(0), "b": change()}, weight)


def test_a_model_named_twice_is_refused(tmp_path, capsys):
    save(run_of(0), tmp_path / "r")
    args = [str(tmp_path / "r")] * 2
    assert main(["bind", "average", *args, "--out", str(tmp_path / "out")]) == 2
    assert "is named twice" in capsys.readouterr().err
    assert main(["bind", "average", *args[:1], "--out", str(tmp_path / "out")]) == 1
    assert "an average needs two models at least; got 1" in capsys.readouterr().err
    assert main(["bind", "average", *args[:1], "x", "--weight", "2", "--out", str(tmp_path / "out")]) == 2
    assert "--weight is 0 to 1" in capsys.readouterr().err
