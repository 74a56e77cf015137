"""Every config builds: its classes, its terms, its keys; and says its command and what it reached."""

from pathlib import Path

import pytest
from jsonargparse import ArgumentError
from quick import small_run

from align.commands.config import make_parser
from align.commands.shortened import shorten

configs = sorted((Path(__file__).parent.parent / "configs").rglob("*.yaml"))


@pytest.mark.parametrize("config", configs, ids=lambda p: p.stem)
def test_a_config_says_its_command_and_score(config):
    first, second = config.read_text(encoding="utf-8").splitlines()[:2]
    assert first.startswith(f"# align train --config configs/{config.name} --run runs/")
    assert second.startswith("# ")
    assert " min" in second
    assert "chance" in second


@pytest.mark.parametrize("config", configs, ids=lambda p: p.stem)
def test_a_config_builds(config, tmp_path, monkeypatch):
    if config.stem == "bind":  # its frozen towers are the quickstart's
        (tmp_path / "runs").mkdir()
        (tmp_path / "runs" / "quickstart").symlink_to(small_run())
        monkeypatch.chdir(tmp_path)
    parser = make_parser()
    made = parser.instantiate(parser.parse_args(["--config", str(config), "--run", "runs/x"]))
    infos = made.objective.infos()
    assert infos
    assert set().union(*(info.modalities for info in infos)) <= set(made.model.modalities)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            ["--data.train=3.5", "--trainer.precision=fp8"],
            "trainer.precision: expected int or one of 'transformer-engine'",
        ),
        (["--model.dim=a"], "model.dim: expected int; got a"),
        (["--checkpoint.mode=maximum"], "checkpoint.mode: expected one of 'min', 'max'; got maximum"),
        (
            ["--model.towers.text.encoder.init_args.width=17"],
            "TransformerText: heads must divide width; 17 is no multiple",
        ),
        (["--model.towers.text.head=align.heads.Line"], "align.heads has no Line; did you mean Linear?"),
    ],
)
def test_a_value_of_no_known_form_is_refused_without_a_dump(options, says):
    parser = make_parser()
    with pytest.raises((ArgumentError, ValueError, TypeError)) as refused:
        parser.instantiate(parser.parse_args(["--config", str(configs[0]), "--run", "runs/x", *options]))
    line = shorten(refused.value)
    assert says in line
    assert not any(word in line for word in ("Union", "Subtypes", "Namespace", "<class", "typing.", "Parser key"))
