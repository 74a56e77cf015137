"""The page of an evaluation's results, with the curves, stages and precision of the run that trained the model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from align.media import Media
    from align.model import JointModel


def read_training(run: Path) -> dict[str, str]:
    """Return the protocol's entry of a run's training, its precision, or nothing where ``run`` is no run folder."""
    import yaml

    path = run / "config.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None
    if not isinstance(config, dict) or "trainer" not in config:
        return {}
    return {"training precision": str((config["trainer"] or {}).get("precision") or "32-true")}


def media_of(model: JointModel) -> Media:
    """Return align's media, and those that the model's preprocesses name."""
    from align.media import MEDIA
    from align.media.choice import with_named

    return with_named(MEDIA, {modality: preprocess.medium for modality, preprocess in model.preprocess.items()})


def write_page(results: Any, shards: Any, folder: Path, run: Path, title: str, media: Media | None = None) -> Path:
    """Write FOLDER/report.html, with the curves of the run where there are any. media: None for align's alone."""
    from align.media import MEDIA
    from align.report import build_gallery, read_samples, read_stages, write_report

    curves = run / "metrics.csv"
    present = [m for m, rows in results.embeddings.items() if rows.n]
    gallery = None
    if len(present) > 1:
        gallery = build_gallery(results.embeddings, shards, hit=results.hit, media=media or MEDIA)
    return write_report(
        folder / "report.html",
        title=title,
        scores=results.scores,
        protocol=results.protocol,
        curves=curves if curves.is_file() else None,
        gallery=gallery,
        sections=[*results.sections, *read_stages(run / "stages.json")],
        samples=read_samples(results.sections, results.embeddings, shards),
        media=media or MEDIA,
    )
