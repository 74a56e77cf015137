"""``ebind``: EBind's heads over other published models (Broadbent et al. 2025, arXiv:2511.14229)."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path

from torch import Tensor

from align.encoders import ImageBind, Uni3D
from align.encoders.weights import find_weights, listing, put_weights, read_weights
from align.files.hub import licence_of, source_folder
from align.heads import MLP
from align.model import JointModel, Tower
from align.published.joined import keep_towers
from align.published.layouts import check_layout

BASE = "PE-Core-L-14-336"
NEEDED = {
    "image": f"open_clip:{BASE}/meta",
    "audio": "imagebind:imagebind_huge.pth",
    "points": "uni3d:modelzoo/uni3d-g-no-lvis/model.pt",
}
"""Tower -> the published model that it comes from."""
PARTS = {"imagebind": ("audio",)}
"""Layout -> the towers that are read of it."""
HEADS = ("audio", "points")
LAYERS = {"net.0": "project.0", "net.2": "project.3"}
"""Published layers of a head -> ours."""
NAME = re.compile(rf"projectors\.({'|'.join(HEADS)})\.(net\.[02]\.(?:weight|bias))")
OTHER_UNI3D = "aa1f163b"
"""First digits of the SHA-256 of uni3d-g, trained with LVIS. The heads were trained on uni3d-g-no-lvis."""


def load(source: str, others: Mapping[str, JointModel]) -> JointModel:
    """Return image, text, audio and points in PE-Core's space, all unit vectors.

    source: model.safetensors, a folder with it, or a hub id such as encord-team/ebind-full. encord-team/
    ebind-audio-vision has no head of points, encord-team/ebind-points-vision none of audio, and such a file needs no
    model of it. others: LAYOUT:SOURCE -> model. They are PE-Core, ImageBind and Uni3D of size g.

    A head is Linear, ReLU, Linear. It reads the mean over a sound's clips of 20 times their unit vectors, or Uni3D's
    vector as it is: neither is normalised before. The factor 20, the scale of ImageBind's file, is part of the
    first matrix here. Pictures and texts go through PE-Core alone, with its scale. No file holds a scale of the
    heads, so sounds and clouds are ranked by cosine.

    Raises FileNotFoundError for a source that is not there, and ValueError for weights of another layout, for names
    that are missing or unknown, for models that are missing, and for those that do not fit.
    """
    path = Path(source) if Path(source).is_file() else find_weights(source_folder(source))
    tensors = read_weights(path)
    check_layout("ebind", tensors, str(path))
    heads = _split(tensors, str(path))
    parts = _choose(source, heads, others)
    base = keep_towers(others[parts["image"]], ["image", "text"])
    towers, licence = dict(base.towers.items()), licence_of(path.parent)
    for name, layers in heads.items():
        tower = others[parts[name]].towers[name]
        towers[name] = _put_head(tower, f"projectors.{name}", layers, base.dim, f"{path} over {parts[name]}", licence)
    _warn_of_other_spaces(parts, towers)
    model = JointModel(towers, base.dim)
    model.terms = base.terms
    return model


def fits(keys: Collection[str]) -> bool:
    """Return True where names of tensors are those of EBind's heads."""
    return any(NAME.fullmatch(key) for key in keys)


def ebind_name(head: str, name: str) -> str:
    """Return the name of a tensor in EBind's checkpoint. It is ``projectors.audio.net.2.bias`` for ``project.3.bias``.

    head: audio or points. name: of the tensor in ``align.heads.MLP``. Raises ValueError for another head or name.
    """
    if head not in HEADS:
        raise ValueError(f"EBind has heads of {' and '.join(HEADS)}, not {head!r}")
    layer, _, part = name.rpartition(".")
    published = {ours: theirs for theirs, ours in LAYERS.items()}
    if layer not in published or part not in ("weight", "bias"):
        raise ValueError(f"{name!r} is no weight or bias of EBind's two layers, {' and '.join(published)}")
    return f"projectors.{head}.{published[layer]}.{part}"


def our_name(name: str) -> str:
    """Return the name in ``align.heads.MLP`` of a tensor in EBind's checkpoint. Raises ValueError for another name."""
    if not (found := NAME.fullmatch(name)):
        raise ValueError(f"{name!r} is no name of EBind's checkpoint, as projectors.audio.net.0.weight is")
    layer, _, part = found[2].rpartition(".")
    return f"{LAYERS[layer]}.{part}"


def _split(tensors: Mapping[str, Tensor], where: str) -> dict[str, dict[str, Tensor]]:
    """Return the tensors of each head. Raises ValueError for names that are missing or unknown."""
    heads: dict[str, dict[str, Tensor]] = {}
    for name, x in tensors.items():
        if found := NAME.fullmatch(name):
            heads.setdefault(found[1], {})[found[2]] = x
    whole = [f"{layer}.{part}" for layer in LAYERS for part in ("weight", "bias")]
    missing = [f"projectors.{head}.{name}" for head in heads for name in whole if name not in heads[head]]
    unknown = [name for name in tensors if not NAME.fullmatch(name)]
    odd = {"missing": missing, "unknown": unknown}
    if said := [f"{len(names)} {kind}: {listing(names)}" for kind, names in odd.items() if names]:
        raise ValueError(f"{where} does not fit the model: {'; '.join(said)}")
    shapes = [f"projectors.{h}.{n} {tuple(x.shape)}" for h in heads for n, x in heads[h].items() if not _is_layer(n, x)]
    if shapes:
        raise ValueError(f"{where} has {len(shapes)} tensors of another shape: {listing(shapes)}")
    return {name: heads[name] for name in HEADS if name in heads}


def _is_layer(name: str, x: Tensor) -> bool:
    return x.ndim == (2 if name.endswith("weight") else 1)


def _choose(source: str, heads: Collection[str], others: Mapping[str, JointModel]) -> dict[str, str]:
    """Return tower -> LAYOUT:SOURCE of the model that it comes from.

    Raises ValueError, with a command that works, where one is missing, and for one that is not needed.
    """
    found: dict[str, str] = {}
    wanted = {name: example for name, example in NEEDED.items() if name == "image" or name in heads}
    for name, model in others.items():
        part = _recognise(model)
        if part not in wanted:
            raise ValueError(f"ebind:{source} has no place for {name}; {_example(source, wanted)}")
        if part in found:
            raise ValueError(f"ebind:{source} takes one of {found[part]} and {name}; {_example(source, wanted)}")
        found[part] = name
    if missing := [example for part, example in wanted.items() if part not in found]:
        raise ValueError(
            f"ebind:{source} is heads over other models; {_example(source, wanted)} (missing: {', '.join(missing)})"
        )
    return found


def _recognise(model: JointModel) -> str | None:
    """Return the tower that a model brings: points of Uni3D, audio of ImageBind, or image with a text of another."""
    encoders = {name: tower.encoder for name, tower in model.towers.items()}
    if isinstance(encoders.get("points"), Uni3D):
        return "points"
    if isinstance(encoders.get("audio"), ImageBind):
        return "audio"
    return "image" if {"image", "text"} <= set(encoders) and model.normalize else None


def _example(source: str, wanted: Mapping[str, str]) -> str:
    return f"import it so: align import ebind {source} OUT --beside {','.join(wanted.values())}"


def _put_head(tower: Tower, name: str, layers: Mapping[str, Tensor], dim: int, where: str, licence: str) -> Tower:
    """Return a tower with its head. name: of the head in the file. Raises ValueError for sizes that do not fit."""
    encoder = tower.encoder
    first, last = layers["net.0.weight"], layers["net.2.weight"]
    if first.shape[1] != encoder.width:
        raise ValueError(
            f"{where}: {name}.net.0.weight reads {first.shape[1]} numbers, not the encoder's {encoder.width}"
        )
    if last.shape[0] != dim:
        raise ValueError(f"{where}: {name}.net.2.weight gives {last.shape[0]} numbers, not the {dim} of pictures")
    if isinstance(encoder, Uni3D) and encoder.kind != "eva":
        raise ValueError(f"{where}: the head reads vectors of Uni3D-g, and this is another size ({encoder.kind})")
    head = MLP(first.shape[1], dim, hidden=first.shape[0], activation="relu")
    scale = encoder.scale if isinstance(encoder, ImageBind) else 1
    tensors = {f"{name}.{layer}": x for layer, x in layers.items()}
    tensors[f"{name}.net.0.weight"] = first.float() * scale
    put_weights(head, tensors, where, names=lambda ours: ebind_name(name.rpartition(".")[2], ours))
    if encoder.origin is not None:
        encoder.origin = encoder.origin._replace(licence=f"{encoder.origin.licence}, its head {licence}")
    return Tower(tower.preprocess, encoder, head)  # pyright: ignore[reportArgumentType]


def _warn_of_other_spaces(parts: Mapping[str, str], towers: Mapping[str, Tower]) -> None:
    """Warn of models that have as many numbers as those of the heads, but were not those."""
    image = towers["image"].encoder
    if image.width == 1024 and BASE not in parts["image"]:
        warnings.warn(f"EBind's heads were trained on {NEEDED['image']}; is {parts['image']} that?", stacklevel=3)
    points = towers["points"].encoder.origin if "points" in towers else None
    if points is not None and points.sha256.startswith(OTHER_UNI3D):
        warnings.warn("EBind's heads were trained on uni3d-g-no-lvis; these points are uni3d-g's", stacklevel=3)
