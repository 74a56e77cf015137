"""`align train` from a config with a pipeline in a module of the user's: equal to shards, and what is refused."""

from __future__ import annotations

import gc
import json

import pytest
from test_commands_train import changed, config, folder, refused  # noqa: F401  folder is a fixture
from test_lit import rows

from align.commands import main
from align.data import Pipeline
from align.embedding import embed_shards
from align.lit import AlignData
from align.lit.sources import Source

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # webdataset does not close its files
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def _closed_here():
    """webdataset's files are closed by the garbage collector: before the next module, where a warning is an error."""
    yield
    gc.collect()


module = """
import itertools

import webdataset

from align.data import Shards


def in_our_order():
    shards = Shards("train-*.tar", seed=0)
    for epoch in itertools.count():
        yield from shards.samples(epoch)


def dataset():
    urls = [f"train-00000{i}.tar" for i in range(3)]
    return webdataset.WebDataset(urls, shardshuffle=False, nodesplitter=webdataset.split_by_node).decode("pil")


class Repeated:
    def __init__(self, times: int):
        self.times = times

    def __call__(self):
        return dataset().repeat(self.times)


def other_names():
    return ({"photo": 1} for _ in range(50))


def nothing():
    return []


def tuples():
    return dataset().to_tuple("json")
"""


@pytest.fixture
def mine(folder, monkeypatch):  # noqa: F811
    """The folder of shards, with the module ``my_pipelines``."""
    (folder / "my_pipelines.py").write_text(module)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(__import__("sys").modules, "my_pipelines", raising=False)
    return folder


def pipeline(make, **more):
    return {"class_path": "align.data.Pipeline", "init_args": {"make": make, "samples": 48, **more}}


def trained(folder, run, *options, **data):  # noqa: F811
    path = changed(folder / "config.yaml", data={**config["data"], **data})
    return main(["train", "--config", str(path), "--run", run, *options])


def losses(run) -> list[str]:
    return [row["loss"] for row in rows(run)]


@pytest.mark.sweep
def test_equal_samples_train_equally(mine, capsys):
    assert trained(mine, "shards", "--trainer.max_steps", "6") == 0
    capsys.readouterr()
    assert trained(mine, "pipe", "--trainer.max_steps", "6", train=pipeline("my_pipelines.in_our_order")) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "my_pipelines" in line]
    assert losses(mine / "pipe") == losses(mine / "shards")
    assert rows(mine / "pipe")[-1]["val/loss"] == rows(mine / "shards")[-1]["val/loss"]
    assert (mine / "pipe/model/model.safetensors").read_bytes() == (
        mine / "shards/model/model.safetensors"
    ).read_bytes()
    # what was saved is a config
    assert main(["train", "--config", "pipe/config.yaml", "--run", "again"]) == 0
    assert losses(mine / "again") == losses(mine / "pipe")
    assert len(said) <= 1  # logging prints it where nobody captures it


def test_a_decoded_dataset_begins_again_and_a_resumed_run_goes_on(mine, capsys, caplog):
    data = {"train": pipeline("my_pipelines.dataset"), "workers": 2}
    assert trained(mine, "run", "--trainer.max_steps", "3", **data) == 0
    assert "the samples of my_pipelines.dataset come in the pipeline's order" in caplog.text
    assert trained(mine, "run", "--trainer.max_steps", "8", **data) == 0
    assert "continuing at step 3" in capsys.readouterr().err
    assert [row["step"] for row in rows(mine / "run")] == list("12345678")
    begun = json.loads((mine / "run/bad.json").read_text())
    assert begun["pipeline/began-again"] == 2  # after the stop 30 positions a worker; they have 28 and 20 samples
    assert not (mine / "run/bad.jsonl").exists()


@pytest.mark.sweep
def test_a_pipeline_is_a_source_in_a_config(mine):
    train = {
        "a": {"urls": "train-*.tar", "weight": 2},
        "b": {"urls": pipeline({"class_path": "my_pipelines.Repeated", "init_args": {"times": 2}}), "weight": 1},
    }
    assert trained(mine, "run", "--data.train.b.weight", "2", train=train) == 0
    last = rows(mine / "run")[-1]
    assert (last["source/a/samples"], last["source/b/samples"]) == ("24", "24")
    saved = (mine / "run/config.yaml").read_text()
    assert "class_path: align.data.Pipeline" in saved
    assert main(["train", "--config", "run/config.yaml", "--run", "again"]) == 0
    assert losses(mine / "again") == losses(mine / "run")


sweep = pytest.mark.sweep


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"train": pipeline("my_pipelines.dataset", sample=3)}, "has no argument 'sample'; did you mean samples?"),
        (
            {"train": pipeline("my_pipelines.datset")},
            "my_pipelines has no datset; did you mean dataset?",
        ),
        ({"train": pipeline("no_such_module.make")}, "No module named 'no_such_module'"),
        (
            {"train": pipeline("my_pipelines.dataset", samples="many")},
            "Pipeline, samples: expected int",
        ),
        (
            {"train": {"a": {"urls": pipeline("my_pipelines.datset")}}},
            "my_pipelines has no datset; did you mean dataset?",
        ),
        ({"train": {"class_path": "align.data.Pipelin", "init_args": {}}}, "no Pipelin; did you mean Pipeline?"),
        (
            {"train": {"class_path": "align.data.Pipeline", "init_args": {"make": "my_pipelines.dataset"}}},
            "required: samples",
        ),
        (
            {"train": pipeline("my_pipelines.other_names")},
            "model's modalities (audio, image, text); they have photo",
        ),
        (
            {"train": pipeline("my_pipelines.tuples")},
            "yields a tuple, no dict from names to contents: leave out .to_tuple() and .batched()",
        ),
        pytest.param({"train": pipeline("my_pipelines.nothing")}, "nothing yields no sample", marks=sweep),
        pytest.param(
            {"train": pipeline("my_pipelines.dataset", samples=5)},
            "hold 5 samples, fewer than data.batch=12: lower it",
            marks=sweep,
        ),
        pytest.param(
            {"train": pipeline("my_pipelines.dataset"), "samples": 48, "resampled": True},
            "a pipeline states its",
            marks=sweep,
        ),
        ({"val": pipeline("my_pipelines.dataset")}, "a pipeline only trains; validation"),
        pytest.param(
            {"val": {"a": {"urls": pipeline("my_pipelines.dataset")}}},
            "a pipeline only trains; validation and evaluation",
            marks=sweep,
        ),
    ],
)
def test_what_is_wrong_is_one_line(mine, capsys, data, says):
    path = changed(mine / "config.yaml", data={**config["data"], **data})
    line = refused(capsys, ["train", "--config", str(path), "--run", "run"], 1)
    assert says in line
    assert len(line) < 400
    assert not (mine / "run" / "metrics.csv").exists()


def test_it_takes_the_datas_defaults_and_keeps_what_it_states():
    from tiny import made

    def make():
        return [{"picture": [0.0] * 6, "text.npy": b""}] * 3

    data = AlignData(
        {
            "a": Source(Pipeline(make, samples=24, members={"image": ["picture"]})),
            "b": Source(Pipeline(make, samples=24)),
        },
        batch=12,
        members={"image": ["other"]},
        max_bad=0.5,
    )
    parts = data.open(made()[0], seed=0).train.sources
    assert [part.members["image"] for part in parts.values()] == [["picture"], ["other"]]
    assert [part.max_bad for part in parts.values()] == [0.5, 0.5]
    with pytest.raises(ValueError, match="a pipeline only trains"):
        embed_shards(made()[0], Pipeline(make, samples=3))  # pyright: ignore[reportArgumentType]
