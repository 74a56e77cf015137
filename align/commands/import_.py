"""``align import LAYOUT SOURCE OUT`` turns published weights into a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from align.commands.errors import Refused
from align.commands.out_folder import check_out

if TYPE_CHECKING:
    from align.model import JointModel


def import_(
    layout: str,
    source: str,
    out: str | None = None,
    /,
    *,
    beside: str | None = None,
    towers: str | None = None,
    video: Literal["mean", "unit-mean"] | None = None,
    json: bool = False,
) -> None:
    """Turn published weights into a model folder

    The model keeps its publisher's preprocessing, tokenizer, projections and temperature, and needs no hub afterwards.
    Every command takes LAYOUT:SOURCE as MODEL too, and imports it into the cache at its first use. `align import
    LAYOUT:SOURCE OUT` means the same as LAYOUT SOURCE OUT.

    Args:
        layout: open_clip, clip-hf, siglip-hf, clap-hf, pe-av, timm, efficientnet-lite, hf-text, whisper, ast,
            imagebind, laion-clap, openshape, ulip2, uni3d or ebind
        source: the model's name in its library (NAME/TAG or NAME@FILE for open_clip, NAME.TAG or
            NAME@FILE for timm), owner/name or hf-hub:owner/name, a saved folder, or a file: for
            efficientnet-lite, imagebind, laion-clap (or TOKENIZER@FILE), openshape, ulip2 and uni3d
        out: the model folder to write
        beside: other published models, LAYOUT:SOURCE,…, whose towers join this one's, such as the CLIP model that a
            point tower was aligned to
        towers: the modalities to keep (image,text), by default all
        video: give the model a tower of videos that shares the image tower's weights: the mean of the frames'
            embeddings ("mean"; Perception Encoder), or of their unit vectors ("unit-mean"; CLIP4Clip)
        json: print the towers, terms and parts as JSON
    """
    from align.checkpoint.published import import_published

    if out is None:  # as the other commands write a model
        named, colon, rest = layout.partition(":")
        if not colon:
            raise Refused("OUT is needed, the model folder to write (see align import --help)", code=2)
        layout, source, out = named, rest, source
    check_out(Path(out))
    model = import_published(
        layout, source, out, beside=_split("beside", beside), towers=_split("towers", towers), video=video
    )
    if json:
        from align.files import json_text

        print(json_text(_describe(model), 2))
    else:
        _print(model)
        print(f"wrote {out}")


def _split(option: str, names: str | None) -> list[str]:
    """Return the names of a list. Raises Refused for one of no names, as an unset variable of the shell gives it."""
    found = [name.strip() for name in (names or "").split(",") if name.strip()]
    if names is not None and not found:
        raise Refused(f"--{option} is empty; leave it out, or give names with commas between them", code=2)
    return found


def _describe(model: JointModel) -> dict[str, Any]:
    """Return towers, terms and parts of a model as plain data."""
    from align.checkpoint.describe import describe
    from align.checkpoint.write import read_parts

    towers = {
        name: {
            "preprocess": describe(model.preprocess[name]),
            "parameters": sum(p.numel() for p in model.towers[name].parameters()),
        }
        for name in model.modalities
    }
    terms = [term._asdict() for term in model.terms]
    return {"dim": model.dim, "towers": towers, "terms": terms, "parts": read_parts(model)}


def _print(model: JointModel) -> None:
    from rich.table import Table
    from rich.text import Text

    from align.checkpoint.write import read_parts
    from align.commands.shown import console

    table = Table(box=None, pad_edge=False)
    for name in ("tower", "parameters", "licence", "weights", "sha256"):
        table.add_column(name, overflow="fold", justify="right" if name == "parameters" else "left")
    parts = read_parts(model)
    for name in model.modalities:
        lender = (model.share or {}).get(name, name)
        about = parts.get(f"{lender}.encoder", {"licence": "unstated", "source": "random", "sha256": ""})
        count = sum(p.numel() for p in model.towers[name].parameters())
        source, digits = (about["source"], about["sha256"][:16]) if lender == name else (f"those of {lender}", "")
        table.add_row(name, f"{count:,}", Text(about["licence"]), Text(source), Text(digits))
    console().print(table)
    for term in model.terms:
        bias = f", bias {term.bias:.4g}" if term.bias else ""
        print(f"{' with '.join(term.modalities)}: scale {term.scale:.4g}{bias}")
