"""``align index add INDEX`` brings an index up to its shards and files, and adds others."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from align.commands.devices import Placing
from align.commands.errors import Refused
from align.commands.groups import Weights
from align.commands.index_backend import say_stale
from align.commands.index_report import say_report
from align.commands.index_settings import Embedding, as_given, read_options
from align.commands.stopping import ending, stopping


def add(
    index: str,
    samples: list[str] = [],  # noqa: B006  it is only read
    /,
    *,
    modalities: str | None = None,
    labels: Literal["none", "folders"] | None = None,
    members: str | None = None,
    model: str | None = None,
    embedding: Embedding,
    placing: Placing,
    weights: Weights,
) -> int:
    """Add shards or a folder to an index, or look for changes in its sources

    Unchanged shards and files are passed over. A shard or a file that has changed replaces its samples, and samples
    whose files are gone from a folder are removed. A deleted sample stays deleted until its shard or file changes.

    A later model, named with --model, adds its rows beside the earlier ones where it is declared compatible with the
    index's (see align compatible). align index show tells them apart.

    Args:
        index: the index folder
        samples: shard files, patterns, or one folder of files. Default: all sources of the index
        modalities: as for align index build. Default: as the index was built
        labels: as for align index build. Default: as the index was built
        members: as for align index build. Default: as the index was built
        model: the index's model, where it is elsewhere now, or a later one. Default: where the index says
    """
    from align.commands.index_build import name_model
    from align.model.place import name_dtype
    from align.search.building import add_to_index
    from align.search.building.build import check_index
    from align.search.building.roots import find_options, names_of, root_of
    from align.search.local import LocalIndex

    folder = Path(index)
    embedding.check()
    check_index(folder)
    with LocalIndex.open(folder) as opened:
        about = dict(opened.about)
    roots = about.get("sources", [])
    given = [as_given(samples)] if samples else [as_given(names_of(root)) for root in roots]
    if not given:
        raise Refused(f"{folder} does not name its sources; name shards or a folder", code=2)
    source = model or str(about["model"]["source"])
    with stopping(folder):
        try:
            loaded = placing.load(weights, source)
        except FileNotFoundError as error:
            remedy = "" if model else "; where the index's model is elsewhere now, name it with --model"
            raise FileNotFoundError(f"{error}{remedy}") from None
        name = name_model(model, weights.locate(model)) if model else "this one"
        made, now = about["model"].get("dtype", "float32"), name_dtype(loaded)
        if made != now:
            print(f"{folder} has rows made in {made}; new ones are made in {now}", file=sys.stderr)
        for one in given:
            stored = dict(find_options(roots, root_of(one)))
            options = read_options([one] if isinstance(one, str) else one, modalities, labels, members, stored)
            report = embedding.run(
                lambda work, one=one, options=options: add_to_index(
                    loaded, one, folder, options=options, work=work, source=name
                )
            )
            say_report(report, folder)
    with ending(lambda: f"{folder} is whole"):
        say_stale(folder)
    return 0
