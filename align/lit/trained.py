"""The parts that train in a stage of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from align.lit.banks import check_frozen, find_banks, list_training
from align.lit.stages import Span
from align.model import JointModel, Tower
from align.objective import Objective
from align.optim import Optim, named_parameters
from align.seeds import derive
from align.tuning import Applied, Tuning, apply


def weights_in(span: Span) -> dict[str, float] | None:
    """Return term -> weight of the terms that train in a stage. None: all, as the objective has them."""
    terms = span.stage.terms
    return None if terms is None else {name: weight for name, weight in terms.items() if weight}


def apply_stage(
    span: Span, tuning: Tuning | None, model: JointModel, objective: Objective, seed: int
) -> Applied | None:
    """Put the settings of a stage and of the run's ``tuning`` into a model. None: all trains, as it stands.

    A stage with terms freezes every parameter that no gradient would reach: the losses of the other terms, and the
    towers that none of its terms joins. So no step moves them.

    Raises ValueError, with the name of the stage, as `align.tuning.apply` does.
    """
    stage, tuning = span.stage, tuning or Tuning()
    freeze = [*tuning.freeze, *stage.freeze, *_list_idle(weights_in(span), model, objective)]
    wanted = replace(tuning, freeze=freeze, lora={**tuning.lora, **stage.lora})
    for p in [*model.parameters(), *objective.parameters()]:
        p.grad = None  # of the stage before: clipping would count the gradient of a part that is frozen now
    if wanted == Tuning():
        return None
    try:
        seed = derive(seed, "adapters", span.name) if span.name else seed
        return apply(model, wanted, objective=objective, seed=seed)
    except ValueError as error:
        text = str(error).removeprefix("tuning.")  # the keys of a stage have the names of those of tuning
        raise ValueError(f"stages.{span.name}: {text}" if span.name else str(error)) from error


def check_parts(
    spans: list[Span], tuning: Tuning | None, model: JointModel, objective: Objective, optim: Optim, steps: int
) -> list[str]:
    """Return the modalities whose towers train in any stage.

    Raises ValueError where a stage has no optimiser, for a pattern that names nothing or where nothing trains, and
    where a term trains whose bank is of a tower that trains too.
    """
    trained: set[str] = set()
    for span in spans:
        applied = apply_stage(span, tuning, model, objective, 0)
        try:
            optim.check(model, objective, steps)
            for _, bank in list_training(find_banks(objective), weights_in(span)):
                if bank.of in model.towers:
                    check_frozen(model, bank.of)
            trained |= {m for m in model.modalities if _trains(model.towers[m])}
        except ValueError as error:
            raise ValueError(f"stages.{span.name}: {error}" if span.name else str(error)) from error
        finally:
            if applied is not None:
                applied.remove()
    return [m for m in model.modalities if m in trained]


def _trains(tower: Tower) -> bool:
    """Return True where a parameter of the head or of the encoder, which may be another tower's, trains."""
    return any(p.requires_grad for part in (tower.encoder, tower.head) for p in part.parameters())


def _list_idle(weights: Mapping[str, float] | None, model: JointModel, objective: Objective) -> list[str]:
    """Return the names of the parameters that no term with a weight reaches."""
    if weights is None:
        return []
    joined = {m for name in weights for contrast in objective.contrasts[name] for m in contrast.modalities}
    towers = [model.towers[m] for m in joined]
    parts = [*towers, *(tower.encoder for tower in towers)]  # a tower does not hold an encoder that it borrows
    reached = {id(p) for part in parts for p in part.parameters()}
    reached |= {id(p) for name in weights for p in objective.losses[name].parameters()}
    return [name for name, p in named_parameters(model, objective).items() if id(p) not in reached]
