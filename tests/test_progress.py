"""Progress: the parts of a line, how often plain lines come, and a terminal of 80 columns."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
import tiny

from align.lit import AlignData, fit
from align.lit.pace import Mark, Pace, choose_pause, write_time
from align.lit.progress import Part, count_room, fit_parts, start_bar
from align.optim import AdamW

LINE = r"step 20/20  loss \d+\.\d{4}  \([a-z]+ \d+\.\d{3}, [a-z]+ \d+\.\d{3}\)  [\d,]+ samples/s  \d+% waiting for data"


def test_speed_is_that_of_the_last_two_minutes():
    pace = Pace(Mark(0.0, 0, 0.0))
    assert pace.count_left(100) is None
    for second in range(1, 601):
        step = second * 10 if second <= 300 else 3000 + (second - 300)
        pace.mark(Mark(float(second), step, second / 4))
    assert pace.speed == pytest.approx(1.0, rel=0.02)
    assert pace.waiting == pytest.approx(0.25)
    assert pace.count_left(3400) == pytest.approx(100, rel=0.02)
    assert len(pace.marks) < 150


def test_a_run_that_goes_on_does_not_count_the_steps_before():
    pace = Pace(Mark(50.0, 1000, 0.0))
    pace.mark(Mark(51.0, 1002, 0.0))
    assert pace.speed == pytest.approx(2.0)


def test_times_are_written_for_people():
    times = [write_time(s) for s in (0.2, 59.4, 61, 3599, 3600, 86399, 86400)]
    assert times == ["0 s", "59 s", "1:01", "59:59", "1:00 h", "23:59 h", "1 d 0 h"]


def test_long_runs_have_rare_lines():
    now, lines = 0.0, 0
    while now < 7 * 86400:
        now, lines = now + choose_pause(now), lines + 1
    assert lines < 1500  # of a week
    assert (choose_pause(60), choose_pause(3600), choose_pause(86400)) == (15, 72, 600)


def test_parts_of_a_high_rank_go_first():
    parts = [Part(0, "loss 1.2345"), Part(4, "(a 1.000, b 2.000)"), Part(2, "900 samples/s"), Part(1, "9 s left")]
    widths = {len(fit_parts(parts, width)) <= width for width in range(11, 80)}
    assert widths == {True}
    assert fit_parts(parts, 100) == "loss 1.2345  (a 1.000, b 2.000)  900 samples/s  9 s left"
    assert fit_parts(parts, 36) == "loss 1.2345  900 samples/s  9 s left"
    assert fit_parts(parts, 22) == "loss 1.2345  9 s left"


@pytest.mark.parametrize("width", [80, 60, 200])
def test_the_bar_is_one_line_of_the_terminal(width):
    from rich.console import Console

    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=width, legacy_windows=False)
    parts = [
        Part(0, "loss 12.3456"),
        Part(4, "(pairs 1.234, triples 2.345)"),
        Part(2, "123,456 samples/s"),
        Part(3, "100% waiting for data"),
        Part(1, "2 d 4 h left"),
    ]
    bar, task = start_bar(console, 0, 1_000_000)
    bar.update(task, completed=999_999, text=fit_parts(parts, count_room(width, 1_000_000)))
    bar.refresh()
    bar.stop()
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    lines = [line for part in plain.split("\n") for line in part.split("\r")]
    assert max(map(len, lines)) < width
    shown = [line for line in lines if "loss 12.3456" in line]
    assert shown
    assert "999999/1000000" in shown[-1]
    assert "2 d 4 h left" in shown[-1]
    assert ("samples/s" in shown[-1]) == (width >= 80)
    assert ("triples 2.345" in shown[-1]) == (width == 200)


def test_plain_lines_have_the_terms_the_speed_and_the_time_left(tmp_path: Path, capsys):
    from align.losses import InfoNCE
    from align.objective import Objective, Term

    tiny.write(tmp_path / "shards", missing=0)
    model, _ = tiny.made()
    terms = {"near": Term(InfoNCE(), [["image", "text"]]), "far": Term(InfoNCE(), [["image", "audio"]])}
    objective = Objective(terms, dim=tiny.dim, batch=12, modalities=list(tiny.modalities)).double()
    data = AlignData(str(tmp_path / "shards/train-*.tar"), batch=12, workers=0)
    trainer = {"accelerator": "cpu", "precision": "64-true", "logger": False, "max_steps": 20}
    fit(model, objective, data, tmp_path / "run", optim=AdamW(lr=0.01), trainer=trainer)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("step ")]
    assert [line.split("/")[0] for line in lines] == [f"step {step}" for step in range(2, 21, 2)]
    assert re.fullmatch(LINE, lines[-1]), lines[-1]
    assert re.search(r"  \d+ s left$", lines[4]), lines[4]
