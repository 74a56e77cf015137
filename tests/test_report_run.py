"""The page of a run: its parts stand there, those without content do not, and a run that trains can be read."""

from __future__ import annotations

import json

import pytest
import yaml

from align.commands import main
from align.page.blocks import Fold
from align.page.chart import LEFT, RIGHT, Chart, Series, plot
from align.report.curves import charts, read
from align.report.measured import group_measures
from align.report.run import write_run
from align.report.run_facts import list_checkpoints, list_skipped


@pytest.fixture
def run(tmp_path):
    """A run folder, written by hand."""
    folder = tmp_path / "digits"
    rows = ["step,loss,clip,clip/scale,grad_norm,samples_per_second,wait,val/loss,val/image_to_text/recall@1"]
    rows += [f"{n},{2 / n},{2 / n},{14 + n},1.0,{50 * n},0.1,," for n in range(1, 5)]
    rows.append("5,0.4,0.4,19,1.0,250,0.3,0.5,0.75")
    checkpoint = folder / "checkpoints" / "step-00000005"
    (checkpoint / "training").mkdir(parents=True)
    (folder / "metrics.csv").write_text("\n".join(rows) + "\n")
    config = {
        "seed": 3,
        "model": {"dim": 8, "towers": {"image": {"encoder": None}, "text": None}},
        "data": {"batch": 10},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    state = {"step": 5, "steps": 20, "monitor": "val/loss", "value": 0.5}
    (checkpoint / "training" / "state.json").write_text(json.dumps(state))
    (checkpoint / "model.json").write_text("{}")
    (checkpoint.with_name("step-00000005-backup") / "training").mkdir(parents=True)  # a person's copy, cut short
    (checkpoint.with_name("step-00000005-backup") / "training" / "state.json").write_text("{")
    index = {"last": checkpoint.name, "best": checkpoint.name, "monitor": "val/loss", "value": 0.5}
    (folder / "checkpoints" / "index.json").write_text(json.dumps(index))
    return folder


def add_measures(folder):
    def line(step, gap):
        return {
            "step": step,
            "scores": {"trained/image_to_text/recall@1": 0.5, "gap/image+text": gap},
            "bins": [-1.0, 1.0, 4],
            "histograms": {"image+text": [[0, 1, 3, 0], [2, 2, 0, 0]]},
        }

    text = "".join(json.dumps(line(step, gap)) + "\n" for step, gap in ((2, 1.0), (5, 0.5)))
    (folder / "diagnostics.jsonl").write_text(text)
    alarm = {
        "step": 4,
        "name": "collapse",
        "cause": "image",
        "text": "All are alike.",
        "advice": "Lower optim.lr.",
    }
    (folder / "alarms.jsonl").write_text(json.dumps(alarm) + "\n")
    start = {"step": 0, "time": "2026-11-01T10:00:00", "host": "box", "world": 1, "python": "3.12.1"}
    start |= {"packages": {"torch": "2.14.1"}, "git": {"folder": {"revision": "0123456789abcdef", "dirty": True}}}
    (folder / "environment.json").write_text(json.dumps({"starts": [start]}))


def test_facts_and_parts(run, capsys):
    assert main(["report", str(run)]) == 0
    out = capsys.readouterr()
    assert "steps: 5 of 20" in out.out
    assert "samples: 50 in batches of 10" in out.out
    assert "best: step 5, val/loss 0.5000" in out.out
    assert out.err == f"wrote {run / 'run.html'}\n"
    page = (run / "run.html").read_text()
    for title in ("Curves", "Checkpoints", "Config"):
        assert f">{title}<" in page
    for title in ("Alarms", "Space", "Starts", "Skipped steps", "Weights", "Evaluation", "Bad data"):
        assert f">{title}<" not in page
    assert page.count("best, last") == 1


def test_diagnostics_alarms_and_starts(run):
    add_measures(run)
    page = write_run(run).read_text()
    for text in (
        "Alarms",
        "Lower optim.lr.",
        "trained recall@1",
        "image + text",
        "0123456789ab with changes",
        "2.14.1",
    ):
        assert text in page
    assert "image and text, step 2" in page  # the first and the last histogram
    assert "image and text, step 5" in page


def test_measures_are_grouped_by_their_name(run):
    from align.diagnostics import read_measures

    add_measures(run)
    assert group_measures(read_measures(run)) == {
        "trained recall@1": {"image → text": [(2.0, 0.5), (5.0, 0.5)]},
        "gap": {"image + text": [(2.0, 1.0), (5.0, 0.5)]},
    }


def test_columns_of_diagnostics_are_no_losses(run):
    text = (run / "metrics.csv").read_text().splitlines()
    (run / "metrics.csv").write_text("\n".join([text[0] + ",diagnose/gap/image+text", *(f"{t},0.5" for t in text[1:])]))
    assert "diagnose/gap" not in write_run(run).read_text()


def test_skipped_steps_scores_and_origins(run):
    (run / "skipped.jsonl").write_text(json.dumps({"step": 4, "keys": ["a", "b"], "reason": "loss is nan"}) + "\n")
    (run / "results.json").write_text('{"zeroshot/digit/image/accuracy": 0.9, "protocol": {}}')
    (run / "model").mkdir()
    part = {"image.encoder": {"source": "timm:resnet", "licence": "apache-2.0", "changed": True}}
    (run / "model" / "model.json").write_text(json.dumps({"parts": part}))
    page = write_run(run).read_text()
    for text in ("loss is nan", "zeroshot/digit/image/accuracy", "timm:resnet", "apache-2.0"):
        assert text in page


def test_out_and_refusals(run, tmp_path, capsys):
    assert main(["report", str(run), "--out", str(tmp_path / "pages")]) == 0
    assert (tmp_path / "pages" / "run.html").is_file()
    assert not (run / "run.html").exists()
    capsys.readouterr()
    assert main(["report", str(tmp_path / "nothing")]) == 1
    assert "no folder" in capsys.readouterr().err
    assert main(["report", str(tmp_path)]) == 1
    assert "has no metrics.csv, so it is no run folder" in capsys.readouterr().err


def test_columns_of_sources_and_skips_are_no_terms(tmp_path):
    header = "step,loss,pairs,source/a/samples,source/a/epoch,source/a/loss,skipped\n"
    (tmp_path / "metrics.csv").write_text(header + "1,2.0,1.0,512,0,1.5,\n2,1.9,0.9,1024,1,1.4,1\n")
    found = charts(read(tmp_path / "metrics.csv"))
    drawn = {chart.title: [line.name for line in chart.series] for chart in found if isinstance(chart, Chart)}
    assert drawn == {"Loss": ["training"], "Loss per term": ["pairs"], "Loss per source": ["a"]}
    pace = [fold for fold in found if isinstance(fold, Fold)]
    assert "Epoch of each source" in [block.title for fold in pace for block in fold.blocks]


def test_files_that_the_run_is_writing(run):
    with (run / "metrics.csv").open("a") as file:
        file.write("6,0.3,0.3,20,1.0,2")  # of 6,0.3,0.3,20,1.0,250,…
    (run / "skipped.jsonl").write_text('{"step": 3, "loss": 3.3604118824005}\n{"step": 4, "ra')
    (run / "checkpoints" / "step-00000004" / "training").mkdir(parents=True)  # its files are being removed
    assert max(x for x, _ in read(run / "metrics.csv")["loss"]) == 5
    assert list_skipped(run).rows == [["3", "3.36"]]
    assert [row[0] for row in list_checkpoints(run).rows] == ["5"]
    text = write_run(run).read_text()
    assert ">4</td>" not in text.split("Skipped steps")[1].split("Curves")[0]


def test_one_validation_stands_at_its_step(run):
    """A chart has the axis of the whole run, so a single dot is not drawn on its left edge."""
    recall = next(c for c in charts(read(run / "metrics.csv")) if isinstance(c, Chart) and "recall" in c.title)
    drawn = plot(recall)
    assert drawn.data["x"] == [1.0, 5.0]
    assert drawn.lines[0].dots[0][0] == RIGHT
    alone = plot(Chart("alone", [Series("a", [(5.0, 1.0)])]))
    assert alone.lines[0].dots[0][0] == (LEFT + RIGHT) / 2
