"""``align assemble`` completes a run's heads with their encoders."""

from __future__ import annotations

from pathlib import Path

from align.commands.errors import Refused
from align.commands.out_folder import check_out


def assemble(source: str, models: list[str] = [], /, *, out: str, allow: str | None = None) -> None:  # noqa: B006  it is only read
    """Complete heads that were trained on cached features with their encoders

    The written model reads files and needs no cache. A head takes the tower that it was fitted on. Another tower is
    refused, with both hashes.

    Args:
        source: a run or a model folder with heads on cached features
        models: the models with the encoders, folders or LAYOUT:SOURCE. Default: those that the heads name
        out: the folder to write
        allow: packages beside align, separated by commas, whose classes the models may name
    """
    from align.checkpoint import load, save
    from align.commands.named import split
    from align.embedding.assemble import assemble as complete
    from align.embedding.assemble import find_heads
    from align.model.inside import unwrap

    check_out(Path(out))
    allowed = split(allow)
    model = load(source, allow=allowed)
    if not (heads := find_heads(model)):
        if any(unwrap(tower).fitted_on for tower in model.towers.values()):
            raise Refused(f"{source} has its encoders already; it needs no align assemble")
        raise Refused(f"no head of {source} was fitted on cached features and waits for an encoder")
    given = {name: load(name, allow=allowed) for name in models} or None
    save(complete(model, given, allow=allowed), out)
    sources = ", ".join(models or dict.fromkeys(origin.model for origin in heads.values()))
    print(
        f"{out} holds whole towers: {', '.join(heads)}, with encoders of {sources}; next: align evaluate {out} SHARDS"
    )
