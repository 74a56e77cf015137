"""The text of a model card: how the model is loaded, its towers, licences, data, scores and protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import align
from align.convert.hub.licences import Licence
from align.convert.hub.measured import FILE, Measured
from align.convert.hub.origin import Training
from align.extras import DISTRIBUTION
from align.model import JointModel
from align.model.inside import unwrap

PICTURE = "scores.png"
EXAMPLES = {
    "image": '["photo.jpg"]',
    "video": '["clip.mp4"]',
    "audio": '["sound.wav"]',
    "points": '["object.ply"]',
    "text": '["a photo of a dog", "a photo of a cat"]',
}
"""Modality -> inputs in the lines that load a model."""
OTHER = '["file"]'
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".onnx")
"""Endings of a part's source that is a file, and no name on the hub."""

EXTRAS = {"align.encoders.hf": "hf", "align.preprocess.hf_": "hf", "align.preprocess.video": "video"}
"""First words of a class's module -> the extra that it needs."""


def write_card(
    name: str,
    where: str,
    model: JointModel,
    licence: Licence,
    parts: Mapping[str, Mapping[str, Any]],
    training: Training | None,
    measured: Measured | None,
) -> str:
    """Return the card below its header. where: as ``align.load`` takes the model."""
    sections = [
        f"# {name}",
        f"One embedding space of {model.dim} dimensions over {_join(model.modalities)}, made with align "
        f"{align.__version__}.",
        *_show_picture(measured),
        "## Use",
        _use(where, model),
        "## Towers",
        _towers(model),
        *_terms(model),
        "## Licence",
        _licences(licence, parts),
        "## Data and training",
        _training(training),
        "## Scores",
        *_scores(measured),
    ]
    return "\n\n".join(sections) + "\n"


def _show_picture(measured: Measured | None) -> list[str]:
    if measured is None:
        return []
    between = " The line across the end of a bar is the score's interval." if measured.intervals else ""
    return [f"![Scores of the model]({PICTURE})", f"Scores on {measured.data()}.{between}"]


def _use(where: str, model: JointModel) -> str:
    inputs = [f"    {m}={EXAMPLES.get(m, OTHER)}," for m in model.modalities]
    allowed = _foreign(model)
    allow = f", allow={allowed}" if allowed else ""
    lines = ["import align", "", f'model = align.load("{where}"{allow})', "embeddings = model.embed(", *inputs, ")"]
    pair = sorted(model.modalities, key=lambda m: (m != "image", m != "text"))[:2]
    if len(pair) == 2 and model.normalize:
        a, b = pair
        lines.append(f'print(embeddings["{a}"] @ embeddings["{b}"].T)  # cosine of each {a} and each {b}')
    extras = ",".join(dict.fromkeys(extra for start, extra in EXTRAS.items() if _has_module(model, start)))
    package = f"'{DISTRIBUTION}[{extras}]'" if extras else DISTRIBUTION
    return f"```sh\npip install {package}\n```\n\n" + "```python\n" + "\n".join(lines) + "\n```"


def _modules(model: JointModel) -> list[str]:
    """Return the modules that the classes of all towers come from."""
    towers: list[Any] = [unwrap(model.towers[m]) for m in model.modalities]
    return [type(part).__module__ for tower in towers for part in (tower.preprocess, tower.encoder, tower.head)]


def _has_module(model: JointModel, start: str) -> bool:
    return any(name.startswith(start) for name in _modules(model))


def _foreign(model: JointModel) -> list[str]:
    """Return the packages beside align whose classes the towers have: a reader has to allow them."""
    return sorted({name.partition(".")[0] for name in _modules(model)} - {"align"})


def _towers(model: JointModel) -> str:
    rows = []
    for m in model.modalities:
        tower: Any = unwrap(model.towers[m])
        lender = (model.share or {}).get(m)
        weights = sum(p.numel() for p in tower.encoder.parameters())
        encoder = f"{type(tower.encoder).__name__}" + (f", that of {lender}" if lender else "")
        rows.append((m, type(tower.preprocess).__name__, encoder, f"{weights:,}", type(tower.head).__name__))
    return _table(("modality", "preprocess", "encoder", "parameters of it", "head"), rows)


def _terms(model: JointModel) -> list[str]:
    terms = ", ".join(f"{'-'.join(term.modalities)} ({term.kind})" for term in model.terms)
    return [f"Trained terms of the objective: {terms}."] if terms else []


def _licences(licence: Licence, parts: Mapping[str, Mapping[str, Any]]) -> str:
    if not parts:
        return f"{licence.name}. The model holds no published weights of others."
    rows = [
        (part, strip_path(about["source"]), about["licence"], "yes" if about["changed"] else "no", about["sha256"][:12])
        for part, about in parts.items()
    ]
    table = _table(("part", "weights of", "licence", "trained since", "sha256"), rows)
    unstated = [part for part, about in parts.items() if about["licence"] == "unstated"]
    more = f"\n\nNo licence is stated for {_join(unstated)}." if unstated else ""
    return f"The model: {licence.name}. Its parts:\n\n{table}{more}"


def _training(training: Training | None) -> str:
    if training is None:
        return "Not known: the card was not made from the folder of a training run."
    sources = [(s.name, "not known" if s.samples is None else f"{s.samples:,}", s.licence) for s in training.sources]
    facts = ", ".join(f"{name} {value}" for name, value in training.facts.items())
    return _table(("shards", "samples", "licence"), sources) + f"\n\nTraining: {facts}. `config.yaml` has the model."


def _scores(measured: Measured | None) -> list[str]:
    if measured is None:
        return ["None were given to this card. `align evaluate` measures them."]
    names = measured.chief()
    rows = [(name, f"{measured.scores[name]:.4f}", _between(measured.intervals.get(name))) for name in names]
    left = len(measured.scores) - len(names)
    more = [f"{left:,} more scores are in `{FILE}`."] if left else []
    return [_table(("score", "value", "interval"), rows), *more, "### Protocol", _protocol(measured)]


def _protocol(measured: Measured) -> str:
    """Return what a reader needs to compare the scores with others. results.json has all of it."""
    about = measured.protocol
    templates = [f"{a}: {', '.join(map(repr, found))}" for a, found in about.get("templates", {}).items()]
    asked = {
        "data": measured.data(),
        "hit rule": about.get("hit rule"),
        "tie rule": about.get("tie rule"),
        "intervals": about.get("intervals"),
        "templates": "; ".join(templates),
        "precision": about.get("precision"),
        "align": about.get("version"),
        "sha256 of the weights": about.get("model"),
    }
    lines = [f"- {key}: {value}" for key, value in asked.items() if value]
    return "\n".join([*lines, *(f"- {note}" for note in about.get("notes", ()))])


def _between(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"


def strip_path(source: str) -> str:
    """Return a source without the path to a file, which is of one machine, a relative one too."""
    path = Path(source)
    return path.name if path.is_absolute() or path.suffix in WEIGHTS or ".." in path.parts else source


def _join(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of Markdown. A bar inside a cell is escaped."""
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    lines = [head, ["---"] * len(head), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
