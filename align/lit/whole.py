"""RUN/model: the best checkpoint, with the encoders of heads that were trained on cached features.

A checkpoint of such a run holds heads over ``Precomputed`` and so stays small. RUN/model alone holds whole towers, and
names the checkpoint that it completes. Where a model that a cache names is not there, RUN/model holds the heads.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from pathlib import Path

from align.checkpoint import list_files, load
from align.checkpoint.write import write_model
from align.embedding.assemble import complete, find_heads, load_each
from align.files import read_json, write_json


def write_whole(best: Path, work: Path, run: Path) -> None:
    """Write the model of the best checkpoint into a folder, with whole towers where their encoders are there.

    A line on stderr says which encoder is missing, and how to complete the heads later.
    """
    about = read_json(best / "model.json")
    if about.get("heads"):
        model = load(best, allow=_packages(best))
        heads = find_heads(model)
        for m in sorted(set(about["heads"]) - set(heads)):
            if (column := about["heads"][m].get("column") or {}).get("kind") == "embedding":
                print(
                    f"{run / 'model'}: the tower {m!r} reads cached embeddings with tokens ({column.get('name')}) and "
                    "no files: only a head on embeddings without tokens can be completed",
                    file=sys.stderr,
                )
        if heads:
            try:
                write_model(complete(model, load_each(_packages(best))), work)
                content = read_json(work / "model.json")
                write_json(work / "model.json", {**content, "completes": about["sha256"]})
                return
            except Exception as error:  # the heads are kept, whatever is wrong with the encoders
                models = " ".join(dict.fromkeys(shlex.quote(origin.model) for origin in heads.values()))
                named = shlex.quote(str(run))
                reason = " ".join(str(error).split())
                print(
                    f"{run / 'model'} holds heads alone, as their encoders are not there ({reason}); "
                    f"complete them with: align assemble {named} {models} --out M",
                    file=sys.stderr,
                )
                for left in work.iterdir():
                    left.unlink()
    for name in list_files(best):
        shutil.copyfile(best / name, work / name)


def _packages(folder: Path) -> list[str]:
    """Return the packages of the classes in a checkpoint's config. The run itself has just used them."""
    text = (folder / "config.yaml").read_text(encoding="utf-8")
    return sorted(set(re.findall(r"class_path: ([A-Za-z0-9_]+)", text)) - {"align"})
