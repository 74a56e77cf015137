"""The parser of a training run's config, and one line for an error in a file or on the command line."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill
from typing import Any

from align.commands.errors import Refused, nearest
from align.commands.shortened import shorten

OURS: set[str | int] = {
    "accumulate_grad_batches",
    "barebones",
    "callbacks",
    "check_val_every_n_epoch",
    "default_root_dir",
    "enable_autolog_hparams",
    "enable_checkpointing",
    "enable_model_summary",
    "enable_progress_bar",
    "fast_dev_run",
    "gradient_clip_algorithm",
    "gradient_clip_val",
    "inference_mode",
    "limit_predict_batches",
    "limit_test_batches",
    "log_every_n_steps",
    "min_epochs",
    "min_steps",
    "model_registry",
    "num_sanity_val_steps",
    "overfit_batches",
    "plugins",
    "profiler",
    "reload_dataloaders_every_n_epochs",
    "sync_batchnorm",
    "use_distributed_sampler",
}
"""Arguments of Lightning's Trainer that no config has: a run decides them itself, or has no use for them."""

CHUNK = (
    "a loss compares the rows of one batch, so steps that add up are not a larger batch; write its size as data.batch, "
    "and chunk: 64 for the rows that a tower reads at a time"
)
INSTEAD = {"accumulate_grad_batches": CHUNK}
"""Arguments of Lightning's Trainer that people know, and the keys that they want here."""

_description = """Train a joint space from a config, or continue the run that is in the run folder. Every key of the
config can be given here too. A run is a function of its config: the same command continues a stopped run, with the same
order of samples. Exit codes: 0 done, 1 a file or key is wrong, 2 the command line is wrong, 3 too many bad samples, 130
and 143 after SIGINT and SIGTERM, with a checkpoint."""


def make_parser() -> Any:
    """Return the parser of a config, whose keys are the constructor arguments of the library's classes."""
    import lightning as L
    from jsonargparse import ArgumentParser

    from align.diagnostics import Diagnose
    from align.lit import AlignData, Checkpoints
    from align.lit.early_stopping import EarlyStopping
    from align.lit.evaluating import Validate
    from align.lit.guard import Guard
    from align.lit.loggers import Loggers
    from align.lit.negatives import Schedule
    from align.lit.stages import Stages
    from align.model import JointModel
    from align.model.compute import Compute
    from align.model.mixup import Mixup
    from align.objective import Objective
    from align.optim import Optim
    from align.tuning import Tuning

    parser = ArgumentParser(prog="align train", description=_description, exit_on_error=False)
    parser.add_argument("--config", action="config", help="a YAML file; its keys are the options below")
    parser.add_argument("--run", type=str, help="the folder that the run writes to and continues from")
    parser.add_argument("--fresh", action="store_true", help="start over, even where the folder has a checkpoint")
    parser.add_argument("--seed", type=int, default=0, help="order, augmentation, dropout and draws follow from it")
    parser.add_argument(
        "--negatives",
        type=Schedule,
        default={},
        help="kinds of negatives by step, for terms that have them (Symile, Hinge, Transport): "
        "{three: {0: shuffled, 500: partial}}",
    )
    parser.add_argument("--start", type=str | None, help="a model (MODEL, RUN or LAYOUT:SOURCE) to take weights from")
    parser.add_argument("--fork", type=str | None, help="a run to begin from: its step, optimiser and order of samples")
    parser.add_argument("--dry-run", action="store_true", help="print the parts that would train, and train nothing")
    parser.add_argument(
        "--chunk",
        type=int | dict[str, int] | None,
        help="rows that a tower reads at a time: 64, or {image: 32}. The step stays exact",
    )
    parser.add_argument("--mixup", type=Mixup | None, help="{of: [image], at: input}: rows mixed of two samples")
    parser.add_argument("--stages", type=Stages | None, help="name -> {until: step, freeze, lora, terms, sources, lr}")
    parser.add_argument("--validate", type=Validate | None, help="{with: [zeroshot, retrieval], every_steps: 500}")
    parser.add_class_arguments(JointModel, "model")
    parser.add_class_arguments(Objective, "objective")
    parser.add_class_arguments(AlignData, "data")
    parser.add_class_arguments(Optim, "optim")
    parser.add_class_arguments(Tuning, "tuning")
    parser.add_class_arguments(Checkpoints, "checkpoint")
    parser.add_class_arguments(Compute, "compute")
    parser.add_class_arguments(Guard, "guard")
    parser.add_class_arguments(Diagnose, "diagnose")
    parser.add_argument("--early_stopping", type=EarlyStopping | None, help="{patience: 5, min_delta: 0.0}")
    parser.add_class_arguments(L.Trainer, "trainer", skip={*OURS, "logger"}, instantiate=False)
    parser.add_argument(
        "--trainer.logger",
        type=Loggers,
        default=True,
        help="tensorboard (true), wandb, mlflow, {class_path: …, init_args: …}, a list of these, or false. metrics.csv "
        "is always written",
    )
    parser.link_arguments("model.dim", "objective.dim")
    parser.link_arguments("model.towers", "objective.modalities", compute_fn=list)
    parser.link_arguments("data.batch", "objective.batch")
    for group in parser._action_groups:  # the first lines of docstrings, which --help would not fold
        group.title = fill(group.title or "", 78)
    return parser


def check_config(parser: Any, config: str) -> None:
    """Check the config by itself, because an error in a file is exit code 1 and one on the command line 2."""
    import yaml
    from jsonargparse import ArgumentError

    from align.lit.source_keys import unknown_source_key

    path = Path(config)
    if not path.is_file():
        raise Refused(f"no config file {config}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Refused(f"{config} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise Refused(f"{config} holds no keys")
    wrong = unknown_key(content, _list_keys(parser)) or unknown_source_key(content.get("data"))
    if wrong:
        raise Refused(f"{config}: {wrong}")
    model = content.get("model")
    if parser.get_defaults(skip_validation=True).get("model.towers") is None and not (model and "towers" in model):
        raise Refused(f"{config} names no model.towers and no start to take them from")
    try:
        parser.parse_args(["--config", config])
    except (ArgumentError, ValueError, TypeError) as error:
        raise Refused(f"{config}: {shorten(error)}") from error


def _list_keys(parser: Any) -> set[str]:
    """Return the keys that hold a value, without groups of keys and the help of classes."""
    names = {action.dest for action in parser._actions} - {"help", "config", "print_config"}
    names = {name for name in names if not name.endswith(".help")}
    return {name for name in names if not any(other.startswith(name + ".") for other in names)}


def unknown_key(content: dict[str, Any], keys: set[str], prefix: str = "") -> str | None:
    """Return a line with the first unknown key of a config and the nearest right one, None where all are known.

    Below a key that is an option itself, jsonargparse checks.
    """
    here = {key[len(prefix) :].split(".")[0] for key in keys if key.startswith(prefix)}
    for name, value in content.items():
        full = f"{prefix}{name}"
        if name not in here:
            return f"no key {full!r}; {INSTEAD.get(str(name)) or nearest(str(name), here)}"
        if full not in keys and isinstance(value, dict):
            wrong = unknown_key(value, keys, full + ".")
            if wrong:
                return wrong
    return None


def check_options(parser: Any, args: list[str]) -> None:
    """Refuse the first unknown option, with the nearest right one."""
    from align.lit.source_keys import unknown_source_option

    known = {option for action in parser._actions for option in action.option_strings}
    leaves = tuple(f"--{key}." for key in _list_keys(parser))  # below these jsonargparse checks
    for arg in args:
        name = arg.split("=")[0]
        wrong = unknown_source_option(name.removeprefix("--"))
        if wrong:
            raise Refused(wrong, code=2)
        if name.startswith("--") and name not in known and not name.startswith(leaves):
            instead = INSTEAD.get(name.removeprefix("--trainer."))
            raise Refused(f"no option {name}; {instead or nearest(name, known)}", code=2)


def parse_args(parser: Any, args: list[str]) -> Any:
    """Return the values of a command line whose options are known. A wrong value is exit code 2."""
    from jsonargparse import ArgumentError

    for arg, after in zip(args, [*args[1:], ""], strict=True):
        name, given, value = arg.partition("=")
        if name.startswith("--") and (value if given else after).startswith("#"):
            value = value if given else after
            raise Refused(f"{name} {value}: YAML reads a comment there, and so nothing; write {'./' + value}", code=2)
    try:
        return parser.parse_args(args)
    except ArgumentError as error:
        text = shorten(error)
        if text.startswith("unrecognized arguments: ") and text.endswith(".tar"):
            text += "; quote a pattern, so that the shell leaves it as it is: 'shards/train-*.tar'"
        raise Refused(text, code=2) from error
