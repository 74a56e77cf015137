"""Every config builds: its classes, its terms, its keys; and says its command and what it reached."""

from pathlib import Path

import pytest

from align.commands.train import make_parser

configs = sorted((Path(__file__).parent.parent / "configs").rglob("*.yaml"))


@pytest.mark.parametrize("config", configs, ids=lambda p: p.stem)
def test_a_config_says_its_command_and_score(config):
    first, second = config.read_text(encoding="utf-8").splitlines()[:2]
    assert first.startswith(f"# align train --config configs/{config.name} --run runs/")
    assert second.startswith("# ")
    assert " min" in second
    assert "chance" in second


@pytest.mark.parametrize("config", configs, ids=lambda p: p.stem)
def test_a_config_builds(config):
    from align.objective import Objective

    parser = make_parser()
    made = parser.instantiate_classes(parser.parse_args(["--config", str(config), "--run", "runs/x"]))
    objective = Objective(
        made.objective.terms, dim=made.model.dim, batch=made.data.batch, modalities=made.model.modalities
    )
    assert objective.infos()
    assert set().union(*(info.modalities for info in objective.infos())) <= set(made.model.modalities)
