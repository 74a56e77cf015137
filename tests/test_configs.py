"""Every config builds: its classes, its terms, its keys; and says its command and what it reached."""

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from few import only
from jsonargparse import ArgumentError
from keys import read_keys
from quick import small_run

from align.commands.config import make_parser
from align.commands.shortened import shorten

folder = Path(__file__).parent.parent / "configs"
configs = [path for path in sorted(folder.rglob("*.yaml")) if "ideas" not in path.parts]  # test_ideas has those


@pytest.mark.parametrize("config", configs, ids=lambda p: p.stem)
def test_a_config_says_its_command_and_score(config):
    first, second = config.read_text(encoding="utf-8").splitlines()[:2]
    assert first.startswith(f"# align train --config configs/{config.name} --run runs/")
    assert second.startswith("# ")
    assert second.startswith("# not run here: ") or (" min" in second and "chance" in second)


BUILDS = [c for c in configs if "\nstart:" not in c.read_text(encoding="utf-8")]
"""One with a start has the towers of a published model: test_start runs it."""
LARGE = ("bind",)  # seconds: it makes several published towers


@pytest.mark.parametrize(
    "config",
    only(BUILDS, *(c.stem for c in BUILDS if c.stem not in LARGE)),
    ids=lambda p: p.stem,
)
def test_a_config_builds(config, tmp_path, monkeypatch):
    """Those of large models on the meta device, where no weights are drawn and none can be put."""
    if config.stem == "bind":  # its frozen towers are the quickstart's
        (tmp_path / "runs").mkdir()
        (tmp_path / "runs" / "quickstart").symlink_to(small_run())
        monkeypatch.chdir(tmp_path)
    parser = make_parser()
    large = config.stem.startswith("ebind")
    with torch.device("meta") if large else nullcontext():
        made = parser.instantiate(parser.parse_args(["--config", str(config), "--run", "runs/x"]))
    assert all(p.is_meta == large for p in made.model.parameters())
    used = made.objective.count_in()
    assert used
    assert used <= set(made.model.modalities)
    assert large or made.objective.infos()


@pytest.mark.parametrize("name", ["ebind", "ebind_open"])
def test_the_heads_over_pe_core_are_those_of_ebinds_checkpoint(name):
    """Names and shapes of the published file, but for CLAP's narrower vector of sounds."""
    parser = make_parser()
    with torch.device("meta"):
        made = parser.instantiate(parser.parse_args(["--config", str(configs[0].with_name(f"{name}.yaml"))]))
    published = read_keys(Path(__file__).parent / "golden" / "ebind.keys")
    layers = {"net.0": "project.0", "net.2": "project.3"}
    for full, shape in published.items():
        _, m, layer, number, part = full.split(".")
        ours = made.model.towers[m].head.get_parameter(f"{layers[f'{layer}.{number}']}.{part}")
        narrow = name == "ebind_open" and full == "projectors.audio.net.0.weight"
        assert tuple(ours.shape) == ((2048, 512) if narrow else tuple(shape)), full
    heads = [p for m in ("audio", "points") for p in made.model.towers[m].head.parameters()]
    assert len(heads) == len(published)
    assert sum(p.numel() for p in made.model.parameters()) == sum(p.numel() for p in heads)


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
        (["--tuning={layer_dekay: {image: 0.5}}"], "tuning has no key 'layer_dekay'; did you mean layer_decay?"),
        (["--validate={evry_steps: 3}"], "validate has no key 'evry_steps'; did you mean every_steps?"),
    ],
)
def test_a_value_of_no_known_form_is_refused_without_a_dump(options, says):
    parser = make_parser()
    with pytest.raises((ArgumentError, ValueError, TypeError)) as refused:
        parser.instantiate(
            parser.parse_args(["--config", str(configs[0].parent / "cifar10.yaml"), "--run", "runs/x", *options])
        )
    line = shorten(refused.value)
    assert says in line
    assert not any(word in line for word in ("Union", "Subtypes", "Namespace", "<class", "typing.", "Parser key"))
