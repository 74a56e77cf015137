"""``align compatible NEW OLD`` declares that a model's embeddings compare with those of an earlier one."""

from __future__ import annotations

import shlex
from pathlib import Path


def compatible(model: str, old: str, /, *, dims: int | None = None, allow: str | None = None) -> None:
    """Declare a model compatible with an earlier one, so that it searches its indexes

    The declaration stands in MODEL's model.json. Then MODEL asks the indexes of the earlier model, and align index add
    puts rows of both into one index. Measure first: align evaluate MODEL SHARDS --with compatibility --old OLD.

    Args:
        model: the new model, a folder or a run
        old: the earlier model, whose rows stay as they are
        dims: the first coordinates that both have in common. Default: all of the earlier model's
        allow: packages beside align, separated by commas, whose classes the models may name
    """
    from align.checkpoint import declare_compatible, load, locate
    from align.commands.named import split

    allowed = split(allow)
    folder = locate(model)
    earlier = load(old, allow=allowed)
    count = declare_compatible(folder, load(folder, allow=allowed), earlier, dims)
    print(f"{folder / 'model.json'}: the first {count} coordinates compare with {old}")
    print(f"try next: align search INDEX --model {shlex.quote(str(Path(model)))} 'words', with an index of {old}")
