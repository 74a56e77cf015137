"""Heads trained from a cache: equal to heads trained live, whole towers at the end, and no tower but their own."""

import copy
import shutil

import pytest
import tiny
import torch
import yaml
from test_columns import write_shards

import align
from align import JointModel, Objective, Term, Tower
from align.checkpoint import find_checkpoint, read_heads
from align.checkpoint.source import locate
from align.commands import main
from align.data import Columns
from align.embedding import assemble, write_cache
from align.encoders import Precomputed, Vector
from align.files import read_json, write_json
from align.heads import MLP
from align.lit import AlignData, fit
from align.lit.fitted_on import describe_refits, note_towers
from align.lit.sources import Source
from align.losses import InfoNCE
from align.optim import Optim
from align.preprocess import Array
from align.values import FeatureOrigin

pytestmark = pytest.mark.slow

modalities = tiny.modalities
options = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False}


def base(seed: int = 0) -> JointModel:
    torch.manual_seed(seed)
    return JointModel({m: Tower(Array((6,)), Vector(6, 8, hidden=8, depth=2)) for m in modalities}, 4).eval()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")
    shards = write_shards(folder / "shards")
    for name, model in (("base", base()), ("other", base(1))):
        align.save(model, folder / name)
    for name, source, dtype in (("a", "base", "float32"), ("half", "base", "float16"), ("b", "other", "float32")):
        model = align.load(folder / source)
        write_cache(model, shards, folder / "cache", name=name, source=str(folder / source), dtype=dtype, max_bad=1)
    return folder, shards


def new_heads(seed: int = 5) -> JointModel:
    torch.manual_seed(seed)
    return JointModel({m: Tower(encoder=Precomputed(8), head=MLP) for m in modalities}, 4)


def live(folder) -> JointModel:
    """The base's encoders, frozen, under the heads of ``new_heads``."""
    model, heads = align.load(folder / "base"), new_heads()
    towers = {
        m: Tower(Array((6,)), model.towers[m].encoder.requires_grad_(False), heads.towers[m].head) for m in modalities
    }
    return JointModel(towers, 4)


def train(model, source, run, *, steps=6, workers=0, **more):
    """Train for some steps, and return the model of the last one."""
    objective = Objective({"all": Term(InfoNCE(), "all")}, dim=4, batch=12, modalities=list(modalities))
    data = AlignData(source, batch=12, workers=workers, max_bad=1)
    trainer = {**options, "max_steps": steps}
    fit(model, objective, data, run, optim=Optim(lr=1e-2, warmup=0, final=1.0), trainer=trainer, seed=3, **more)
    return align.load(run, checkpoint="last")


def columns(folder, name="a", of=modalities):
    return {m: f"{folder}/cache/{name}:{m}" for m in of}


@pytest.fixture(scope="module")
def runs(world):
    """A live run, and one from the cache with three workers and a resume."""
    folder, shards = world
    model = train(live(folder), shards, folder / "live")
    train(new_heads(), Source(columns=columns(folder)), folder / "run", steps=3, workers=3)
    cached = train(new_heads(), Source(columns=columns(folder)), folder / "run", workers=3)
    return folder, shards, model, cached


def weights_of_heads(model):
    return {name: x for name, x in model.state_dict().items() if ".head." in name}


def test_heads_from_a_cache_equal_heads_trained_live(runs):
    """Holes, two captions, bad members, groups, weights, a hard negative, three workers and one resume."""
    folder, _, trained, cached = runs
    live, ours = weights_of_heads(trained), weights_of_heads(cached)
    assert max(float((live[name] - ours[name]).abs().max()) for name in live) < 1e-5
    begin = weights_of_heads(new_heads())
    assert min(float((live[name] - begin[name]).abs().max()) for name in live) > 1e-3
    assert read_json(folder / "run/bad.json") == read_json(folder / "live/bad.json")


def test_float16_trains_the_same_directions(runs):
    folder, _, trained, _ = runs
    cached = train(new_heads(), Source(columns=columns(folder, "half")), folder / "half")
    live, ours = weights_of_heads(trained), weights_of_heads(cached)
    for name in live:
        assert torch.nn.functional.cosine_similarity(live[name].flatten(), ours[name].flatten(), 0) > 1 - 1e-5


def test_columns_beside_raw_shards_equal_live_training(runs):
    folder, shards, trained, _ = runs
    heads, model = new_heads(), live(folder)
    towers = {m: model.towers[m] for m in ("image", "audio")} | {"text": heads.towers["text"]}
    cached = train(JointModel(towers, 4), Source(shards, columns=columns(folder, of=("text",))), folder / "beside")
    ours = weights_of_heads(cached)
    wanted = weights_of_heads(trained)
    assert max(float((wanted[name] - ours[name]).abs().max()) for name in wanted) < 1e-5
    whole = align.load(folder / "beside")
    assert not isinstance(whole.towers["text"].encoder, Precomputed)
    assert [*read_heads(whole)] == ["text"]


def inputs(n=4):
    return {m: [torch.randn(6, generator=torch.Generator().manual_seed(i)) for i in range(n)] for m in modalities}


def test_the_runs_model_holds_whole_towers_without_a_cache(runs, capsys):
    folder, shards, trained, _ = runs
    assert locate(folder / "run") == folder / "run/model"
    whole = align.load(folder / "run")
    wanted, found = trained.embed(**inputs()), whole.embed(**inputs())
    assert all(torch.allclose(wanted[m], found[m], atol=1e-5) for m in modalities)
    checkpoint = find_checkpoint(folder / "run", "last")
    assert isinstance(align.load(checkpoint).towers["text"].encoder, Precomputed)
    small = (checkpoint / "model.safetensors").stat().st_size
    assert small < (folder / "run/model/model.safetensors").stat().st_size
    assert read_heads(whole)["text"]["model"] == str(folder / "base")
    assert main(["evaluate", str(folder / "run"), shards, "--with", "retrieval", "--out", str(folder / "results")]) in (
        0,
        3,
    )
    train(new_heads(), Source(columns=columns(folder)), folder / "run")
    assert "is trained: 6 of 6 steps" in capsys.readouterr().err


def test_without_the_model_heads_are_saved_and_assemble_completes_them(runs, capsys):
    folder, _, trained, _ = runs
    (folder / "base").rename(folder / "away")
    try:
        train(new_heads(), Source(columns=columns(folder)), folder / "alone")
        line = next(line for line in capsys.readouterr().err.splitlines() if "holds heads alone" in line)
        assert f"align assemble {folder / 'alone'} {folder / 'base'} --out M" in line
        assert isinstance(align.load(folder / "alone").towers["text"].encoder, Precomputed)
        assert main(["assemble", str(folder / "alone"), "--out", str(folder / "m")]) == 1
        assert "no model folder" in capsys.readouterr().err
        assert main(["assemble", str(folder / "alone"), str(folder / "other"), "--out", str(folder / "m")]) == 1
        says = capsys.readouterr().err
        assert "was fitted on the image tower" in says.replace("audio", "image").replace("text", "image")
        assert says.count("weights") >= 2
        assert not (folder / "m").exists()
        assert main(["assemble", str(folder / "alone"), str(folder / "away"), "--out", str(folder / "m")]) == 0
    finally:
        (folder / "away").rename(folder / "base")
    wanted, found = trained.embed(**inputs()), align.load(folder / "m").embed(**inputs())
    assert all(torch.allclose(wanted[m], found[m], atol=1e-5) for m in modalities)
    assert f"with encoders of {folder / 'away'}; next" in capsys.readouterr().out
    assert main(["assemble", str(folder / "base"), "--out", str(folder / "n"), "--allow", "tests,tiny"]) == 1
    assert "no head of" in capsys.readouterr().err
    assert main(["assemble", str(folder / "m"), "--out", str(folder / "n")]) == 1
    assert f"{folder / 'm'} has its encoders already" in capsys.readouterr().err
    (folder / "m/notes.txt").write_text("kept")
    assert main(["assemble", str(folder / "alone"), "--allow", "one,other", "--out", str(folder / "m")]) == 1
    assert "holds notes.txt beside a model, which would be lost" in capsys.readouterr().err
    assert (folder / "m/notes.txt").read_text() == "kept"


def test_a_changed_model_at_the_end_leaves_the_heads(runs, capsys, tmp_path):
    folder, _, _, _ = runs
    shutil.copytree(folder / "base", tmp_path / "base")
    align.save(base(9), folder / "base")
    try:
        train(new_heads(), Source(columns=columns(folder)), folder / "changed")
    finally:
        align.save(align.load(tmp_path / "base"), folder / "base")
    line = next(line for line in capsys.readouterr().err.splitlines() if "holds heads alone" in line)
    assert "another tower's features mean something else" in line


def test_a_run_refuses_the_cache_of_another_tower(runs):
    folder, _, _, _ = runs
    before = (folder / "run/checkpoints/index.json").read_bytes()
    with pytest.raises(
        ValueError, match=r"the head '.*' is fitted on the .* tower of .* with weights .*another --run"
    ) as error:
        train(new_heads(), Source(columns=columns(folder, "b")), folder / "run", steps=9)
    hashes = [read_json(folder / "cache/cache.json")["sets"][name]["columns"]["image"]["weights"][:12] for name in "ab"]
    assert all(mark in str(error.value) for mark in hashes)
    assert (folder / "run/checkpoints/index.json").read_bytes() == before
    mixed = {"one": Source(columns=columns(folder)), "two": Source(columns=columns(folder, "b"))}
    with pytest.raises(ValueError, match="two columns of one modality come from one tower"):
        train(new_heads(), mixed, folder / "mixed")
    assert not (folder / "mixed").exists()


@pytest.mark.parametrize("fact", ["weights", "preprocess", "kind"])
def test_a_head_goes_on_with_rows_of_its_own_tower_alone(runs, tmp_path, fact):
    """One fact of the checkpoint's head differs, and each alone is another tower."""
    folder, _, _, cached = runs
    about = read_json(find_checkpoint(folder / "run", "last") / "model.json")
    write_json(tmp_path / "model.json", about)
    rows, model = Columns(columns(folder)), new_heads()
    note_towers(model, [rows, None], tmp_path)
    assert read_heads(model) == read_heads(cached)
    head = about["heads"]["text"]
    (head["column"] if fact == "kind" else head)[fact] = "e" * 12
    write_json(tmp_path / "model.json", about)
    with pytest.raises(
        ValueError, match=rf"'text' is fitted on .* with {fact} e{{12}}; the column .*a:text is of {fact}"
    ):
        note_towers(new_heads(), [rows, None], tmp_path)


def test_a_run_that_goes_on_without_columns_keeps_the_tower_of_its_heads(runs):
    folder, _, _, cached = runs
    model = new_heads()
    assert read_heads(model) == {}
    note_towers(model, [None, None], find_checkpoint(folder / "run", "last"))
    assert sorted(read_heads(model)) == sorted(modalities)
    assert read_heads(model) == read_heads(cached)


def test_a_refit_is_said(runs):
    _, _, _, cached = runs
    before, model = read_heads(cached), copy.deepcopy(cached)
    assert describe_refits(before, model) == []
    tower = model.towers["text"]
    tower.fitted_on = tower.fitted_on._replace(model="runs/new", weights="f" * 64)
    (line,) = describe_refits(before, model)
    assert line.startswith("the head 'text' is fitted anew: it was fitted on the text tower of")
    assert "ffffffffffff" in line


def test_a_run_that_starts_from_heads_refits_them_on_another_tower(runs, capsys):
    folder, _, _, cached = runs
    capsys.readouterr()
    model = train(
        new_heads(9), Source(columns=columns(folder, "b")), folder / "refit", steps=1, start=str(folder / "run")
    )
    err = capsys.readouterr().err
    assert "weights of" in err
    lines = [line for line in err.splitlines() if "is fitted anew" in line]
    assert sorted(line.split("'")[1] for line in lines) == sorted(modalities)
    other = read_json(folder / "cache/cache.json")["sets"]["b"]["columns"]["text"]["weights"]
    assert model.towers["text"].fitted_on.weights == other
    flat = [torch.cat([x.flatten() for x in weights_of_heads(m).values()]) for m in (model, cached, new_heads(9))]
    near, far = (torch.nn.functional.cosine_similarity(flat[0], other, dim=0) for other in flat[1:])
    assert near > 0.98 > far  # one step from the heads of the run


def test_heads_that_share_an_encoder_share_it_in_the_whole_model(world):
    folder, _ = world
    model = new_heads()
    origins = read_json(folder / "cache/cache.json")["sets"]["a"]["columns"]["text"]
    for m in ("text", "audio"):
        column = {**origins, "name": "x"}
        model.towers[m].fitted_on = FeatureOrigin(
            str(folder / "base"), "", "text", origins["weights"], origins["preprocess"], column
        )
    whole = assemble(model)
    assert whole.share == {"text": "audio"} or whole.share == {"audio": "text"}
    assert whole.towers["text"].encoder is whole.towers["audio"].encoder
    align.save(whole, folder / "shared")
    again = align.load(folder / "shared")
    assert torch.equal(again.embed(text=inputs()["text"])["text"], whole.embed(text=inputs()["text"])["text"])


def test_the_command_line_trains_from_a_cache(world, tmp_path, capsys):
    folder, _ = world
    config = {
        "model": {
            "dim": 4,
            "towers": {
                m: {"encoder": {"class_path": "align.encoders.Precomputed", "init_args": {"width": 8}}}
                for m in modalities
            },
        },
        "objective": {"terms": {"all": {"loss": "align.losses.InfoNCE", "between": "all"}}},
        "data": {"train": {"columns": columns(folder)}, "batch": 12, "workers": 0, "max_bad": 1},
        "trainer": {"max_steps": 2, "accelerator": "cpu", "logger": False},
    }

    def run(**data):
        made = {**config, "data": {**config["data"], **data}}
        (tmp_path / "c.yaml").write_text(yaml.safe_dump(made))
        code = main(["train", "--config", str(tmp_path / "c.yaml"), "--run", str(tmp_path / "run")])
        return code, capsys.readouterr().err

    named = {
        "one": {"columns": columns(folder), "weight": 1},
        "two": {"columns": columns(folder, of=("text", "image")), "weight": 1},
    }
    val = {"columns": columns(folder), "shards": "train-000002.tar"}
    assert run(train=named, val=val)[0] == 0
    code, line = run(train={"column": columns(folder), "urls": "x"})
    assert code == 1
    assert "no key 'data.train.column'; did you mean columns?" in line
    code, line = run(train={"columns": {"text": f"{folder}/cache/aa:text"}})
    assert code == 1
    assert "has no set 'aa'; did you mean a?" in line
    narrow = {"columns": {"text": f"{folder}/cache/a:text"}}
    code, line = run(train=narrow)
    assert code == 1
    assert "the training shards have no row of audio, image; they have text" in line
