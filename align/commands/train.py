"""``align train --config F --run DIR`` trains a joint space, or resumes a run."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from align.commands.config import check_config, check_options, make_parser, parse_args
from align.commands.dry_run import print_parts
from align.commands.errors import Refused
from align.commands.shortened import shorten
from align.commands.start_towers import set_towers


def train(
    *,
    config: str,
    run: str,
    fresh: bool = False,
    seed: int = 0,
) -> int:
    """Train a joint space from a config, or resume the run of a run folder

    Every key of the config can be given on the command line too: --model.dim 64 --trainer.max_steps 100.
    """
    return parse(["--config", config, "--run", run, "--seed", str(seed), *(["--fresh"] if fresh else [])])


def parse(args: Sequence[str], *, quiet: bool = False) -> int:
    """Parse and check the command line of ``align train``, then train. Returns the exit code."""
    import torch

    from align.grad_cache import check_chunk
    from align.seeds import derive

    parser = make_parser()
    args = list(args)
    if not args or "-h" in args or "--help" in args:
        parser.print_help()
        return 0
    check_options(parser, args)
    if any(arg.split("=")[0].endswith(".help") for arg in args):  # of a class: jsonargparse prints it and exits
        parser.parse_args(args)
    config = _option(args, "--config")
    if config is None:
        raise Refused("align train needs --config FILE (see configs/); align train --help lists the keys", code=2)
    if not {"--print_config", "--dry-run"} & {*args} and _option(args, "--run") is None:
        raise Refused("align train needs --run DIR, the folder that the run writes to and continues from", code=2)
    set_towers(parser, args, config, _option(args, "--start"))
    check_config(parser, config)
    values = parse_args(parser, args)
    torch.manual_seed(derive(values.seed, "weights"))
    try:
        made = parser.instantiate(values)
        check_chunk(made.chunk, made.model.modalities)
    except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: torch refuses a size
        raise Refused(f"{config}: {shorten(error)}") from error
    if made.dry_run:
        print_parts(made)
        return 0
    from align.lit.forks import check_begin

    try:
        check_begin(fresh=made.fresh, start=_option(args, "--start"), fork=made.fork)
    except ValueError as error:
        raise Refused(str(error), code=2) from error
    return _train(made, parser.dump(values, skip_unset=False), values, quiet)


def _option(args: Sequence[str], name: str) -> str | None:
    for i, arg in enumerate(args):
        if arg == name and i + 1 < len(args):
            return args[i + 1]
        if arg.startswith(name + "="):
            return arg.split("=", 1)[1]
    return None


def _train(made: Any, config: str, values: Any, quiet: bool) -> int:
    from align.commands.over import over
    from align.commands.process import leave_a_core
    from align.data.bad import TooManyBad, is_fault, table
    from align.distributed import rank
    from align.files import read_json
    from align.lit import fit
    from align.lit.skipped import TooManySkipped

    leave_a_core()

    run = Path(made.run)
    trainer = {k: v for k, v in values.trainer.as_dict().items() if v is not None}
    try:
        fitted = fit(
            made.model,
            made.objective,
            made.data,
            run,
            optim=made.optim,
            trainer=trainer,
            checkpoint=made.checkpoint,
            seed=made.seed,
            negatives=made.negatives,
            fresh=made.fresh,
            chunk=made.chunk,
            mixup=made.mixup,
            tuning=made.tuning,
            stages=made.stages,
            validate=made.validate,
            start=made.start,
            fork=made.fork,
            config=config,
            compute=made.compute,
            guard=made.guard,
            diagnose=made.diagnose,
            early_stopping=made.early_stopping,
        )
    except TooManyBad as error:
        if rank() == 0:
            raise over(error, "--data.max_bad") from error
        return 0  # all ranks stop in this step; a failure here may get the first one killed before it says why
    except TooManySkipped:
        if rank() == 0:
            raise
        return 0
    if fitted.rank:  # only the first rank prints
        return 0
    faults = {reason: n for reason, n in fitted.bad.items() if is_fault(reason)}
    if faults:
        print(f"bad members, by name in {run / 'bad.jsonl'}:\n{table(faults)}", file=sys.stderr)
    if fitted.signal:
        print(f"stopped at step {fitted.step}; the same command continues", file=sys.stderr)
        return 128 + fitted.signal
    if not quiet:
        about = read_json(run / "model" / "model.json")
        whole = "completes" in about or not about.get("heads")  # heads alone read no files
        after = f"; next: align evaluate {shlex.quote(str(run))} SHARDS" if whole else ""
        print(f"trained {fitted.step} steps; the model is in {run / 'model'}{after}")
    return 0


train.parse = parse  # pyright: ignore[reportFunctionMemberAccess]  the parser is made from the library's classes
