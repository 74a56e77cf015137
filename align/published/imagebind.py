"""``imagebind``: ImageBind (Girdhar et al. 2023, arXiv:2305.05665), imagebind_huge.pth or some of its towers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import combinations
from pathlib import Path

from align.encoders import ImageBind
from align.encoders.imagebind.names import NAMES, list_modalities
from align.encoders.weights import listing, read_keys
from align.heads import Identity
from align.model import JointModel, Tower
from align.preprocess.wanted import build_wanted
from align.published.layouts import check_layout
from align.values import TermInfo


def load(source: str, keep: Sequence[str] = ()) -> JointModel:
    """Return the towers that a file has: image (and video, which shares its encoder), text, audio, depth, thermal, imu.

    source: a file with the names of imagebind_huge.pth. keep: the modalities to read, all where there is none.

    Vectors are not normalised: that of a sound or a video is the mean of its clips' unit vectors, as published. The
    published vectors are ``encoder.scale`` times as long. Their product is the score of each two modalities, so each
    two have a term with the product of their scales.

    Raises FileNotFoundError for a file that is not there, ValueError for a damaged file, for weights of another layout
    and for names that are missing or unknown.
    """
    path = Path(source)
    keys = read_keys(path)
    check_layout("imagebind", keys, source)
    modalities = list_modalities(keys)
    unknown = [key for key in keys if not any(names.holds(key) for names in NAMES.values())]
    if unknown:
        raise ValueError(f"{source} does not fit the model: {len(unknown)} unknown: {listing(unknown)}")
    if keep:
        wanted = {"image" if name == "video" else name for name in keep}
        if absent := sorted(wanted - set(modalities)):
            raise ValueError(f"no tower {absent[0]!r}; the towers are {', '.join(modalities)}")
        modalities = [modality for modality in modalities if modality in wanted]
    towers = {modality: Tower(encoder=ImageBind(modality, pretrained=source), head=Identity) for modality in modalities}
    scales = {modality: tower.encoder.scale for modality, tower in towers.items()}
    share = {}
    if "image" in towers:
        share["video"], scales["video"] = "image", scales["image"]
        (clips,) = towers["image"].encoder.also_wants()
        towers["video"] = Tower(build_wanted(clips), head=Identity)
    model = JointModel(towers, next(iter(towers.values())).encoder.width, share or None, normalize=False)
    model.terms = [TermInfo((a, b), "pairwise", scales[a] * scales[b]) for a, b in combinations(scales, 2)]
    return model


def fits(keys: Collection[str]) -> bool:
    """Return True where names of tensors are those of ImageBind's trunks and heads, of one modality or more."""
    return any(key.startswith("modality_trunks.") for key in keys) and any(
        key.startswith("modality_heads.") for key in keys
    )
