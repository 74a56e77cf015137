"""A model as a folder that ``SentenceTransformer(path)`` loads: in its own modules where they hold it, else in ours."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from align.checkpoint.write import read_parts, write_model
from align.convert.sentences.card import write_card
from align.convert.sentences.check import compare
from align.convert.sentences.clip import refuse_clip, write_clip
from align.convert.sentences.inputs import check_text, list_prefixes
from align.convert.sentences.parts import Part
from align.convert.sentences.text import refuse_text, write_text
from align.encoders.hf.model import quiet
from align.files import write_json
from align.files.fresh import fresh_folder
from align.model import JointModel
from align.published.joined import keep_towers

OURS = Part("align.convert.sentences.module.AlignTowers", "")


def write_sentence_transformers(
    model: JointModel,
    folder: str | Path,
    *,
    towers: Sequence[str] | None = None,
    prompts: Mapping[str, str] | None = None,
    truncate: int | None = None,
    modules: str = "native",
) -> list[str]:
    """Write a model as a folder of Sentence Transformers 6, whole or not at all. Return lines about it.

    The folder is a model folder too, which `align.load` reads. A text tower of transformers (``HFText``) and CLIP's two
    (``HFImage`` and ``HFCaption``) become Sentence Transformers' own modules, which need no align. They are loaded and
    compared with the model before the folder appears. Any other model becomes the module `AlignTowers`, which imports
    align and therefore asks for ``trust_remote_code=True``. It reads every modality of the model.

    Args:
        model: the model. One of its towers reads text.
        folder: the folder to write.
        towers: the modalities to write. None: all.
        prompts: name -> a text that goes before every text with ``encode(..., prompt_name=NAME)``.
        truncate: number of first coordinates that ``encode`` gives, of a model trained with ``Matryoshka``.
        modules: "native" for Sentence Transformers' own modules where they hold the model, "align" for ours always.

    Raises ValueError where no tower reads text, for an unknown tower, and for a ``truncate`` that the model was not
    trained for. Raises ImportError where its own modules are to be written and a library is absent.
    """
    if modules not in ("native", "align"):
        raise ValueError(f"modules={modules!r} is not known; it may be 'native' or 'align'")
    model = model if towers is None else keep_towers(model, list(towers))
    check_text(model)
    sizes = list_prefixes(model)
    if truncate is not None and truncate not in (*sizes, model.dim):
        which = f"{', '.join(map(str, sizes))} or {model.dim}" if sizes else f"{model.dim}: it is no Matryoshka model"
        raise ValueError(f"truncate={truncate}: the embeddings of this model may be cut to {which}")
    with fresh_folder(folder) as work:
        write_model(model, work)
        parts, stated, reason = _write_modules(model, work, modules == "native")
        notes: Sequence[str] = ()
        _write_list(work, parts, {**stated.get("prompts", {}), **(prompts or {})}, stated, truncate)
        if parts != [OURS]:
            with quiet():
                difference, notes = compare(model, work)
            if difference is not None:
                for part in parts:
                    shutil.rmtree(work / part.path)
                parts, reason = [OURS], difference
                _write_list(work, parts, dict(prompts or {}), {}, truncate)
        write_card(model, work, Path(folder).name, parts != [OURS], sizes, read_parts(model))
    return [*_say(folder, parts != [OURS], reason, sizes), *notes]


def _write_list(
    work: Path, parts: Sequence[Part], prompts: Mapping[str, str], stated: Mapping[str, Any], truncate: int | None
) -> None:
    """Write modules.json and config_sentence_transformers.json."""
    write_json(work / "modules.json", [part.entry(i) for i, part in enumerate(parts)])
    about = {"model_type": "SentenceTransformer", "similarity_fn_name": "cosine", "default_prompt_name": None}
    about |= {**stated, "prompts": dict(prompts)} | ({} if truncate is None else {"truncate_dim": truncate})
    write_json(work / "config_sentence_transformers.json", about)


def _write_modules(model: JointModel, work: Path, native: bool) -> tuple[list[Part], dict[str, Any], str]:
    """Write the modules into the model's folder. Return them, their part of the configuration, the reason for ours."""
    if not native:
        return [OURS], {}, "it was asked for"
    no_text, no_clip = refuse_text(model), refuse_clip(model)
    try:
        if no_text is None:
            with quiet():
                return *write_text(model, work), ""
        if no_clip is None:
            with quiet():
                return write_clip(model, work), {}, ""
    except SafetensorError as error:  # transformers writes its weights itself
        raise OSError(f"the modules of Sentence Transformers cannot be written: {error}") from error
    reason = no_clip if len(model.modalities) > 1 else no_text
    return [OURS], {}, f"Sentence Transformers' modules cannot hold the model, as {reason}"


def _say(folder: str | Path, native: bool, reason: str, sizes: Sequence[int]) -> list[str]:
    """Return the lines that say how the folder is loaded."""
    cut = [f"Matryoshka: truncate_dim may be {', '.join(map(str, sizes))}"] if sizes else []
    if native:
        return [f"wrote {folder}: SentenceTransformer({str(folder)!r}) needs no align", *cut]
    return [
        f"wrote {folder} with align's own module: {reason}",
        f"load it with SentenceTransformer({str(folder)!r}, trust_remote_code=True) where align is installed; "
        "Sentence Transformers asks for that argument before it imports a class of another package",
        *cut,
    ]
