"""Parts that several towers have in common: one module, held and saved by one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn


def tie(towers: Any, tied: Mapping[str, str]) -> None:
    """Give parts of towers the modules of other towers, in place: {"text.head.table": "image.head.table"}.

    The lender alone holds the module, so a state dict and an optimiser have its weights one time, and its gradient is
    the sum of all that use it.

    Raises ValueError for a path that leads to no module, a part that lends and borrows, and parts of other shapes.
    """
    for borrower, lender in tied.items():
        if lender in tied or borrower == lender:
            raise ValueError(f"tied: {borrower!r} borrows from {lender!r}, which borrows itself; name the owner")
        part, owner, name = find_part(towers, borrower)
        lent = find_part(towers, lender)[0]
        ours, theirs = ({k: tuple(x.shape) for k, x in m.state_dict().items()} for m in (part, lent))
        if type(part) is not type(lent) or ours != theirs:
            raise ValueError(
                f"tied: {borrower} is {_say(part, ours)}, and {lender} is {_say(lent, theirs)}; "
                "a module that two towers share has one shape"
            )
        del owner._modules[name]
        vars(owner)[name] = lent  # past nn.Module, which would make it a child
        vars(owner)["_borrowed"] = (*vars(owner).get("_borrowed", ()), name)


def untie(tower: nn.Module) -> None:
    """Let the parts of a tower hold the modules that they borrowed, as before a new model ties them anew."""
    for module in list(tower.modules()):
        for name in vars(module).pop("_borrowed", ()):
            part = vars(module).pop(name)
            module._modules[name] = part


def find_part(towers: Any, path: str) -> tuple[nn.Module, nn.Module, str]:
    """Return the module at a path that begins with a tower's name, the module that holds it, and its name there."""
    tower, _, inside = path.partition(".")
    if tower not in towers or not inside:
        raise ValueError(f"tied names {path!r}; a path is TOWER.head.PART, and the towers are {', '.join(towers)}")
    *way, last = inside.split(".")
    owner: Any = towers[tower]
    for step in way:
        owner = _plain(getattr(owner, step, None))
    found = getattr(owner, "_modules", {}).get(last)
    if found is None:
        has = ", ".join(getattr(owner, "_modules", {})) or "no parts"
        raise ValueError(f"tied names {path!r}; {path.rpartition('.')[0]} has {has}")
    return found, owner, last


def list_tied(model: Any) -> list[nn.Module]:
    """Return the modules that towers borrow, one time each."""
    found = {id(part): part for part in (find_part(model.towers, path)[0] for path in (model.tied or {}).values())}
    return list(found.values())


def _plain(module: Any) -> Any:
    return getattr(module, "_orig_mod", module)  # of torch.compile


def _say(part: nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> str:
    return f"{type(part).__name__} of {', '.join(str(shape) for shape in shapes.values()) or 'no weights'}"
