"""Regions of a build: boxes from pixels or masks, and captions of the whole by rule, as RemoteCLIP makes them.

Liu et al. 2024 (arXiv:2306.11029, section 3.2): mask-to-box takes the frame of a mask's pixels, box-to-caption names
the objects of a picture and how many there are, in a caption each for the middle and for the rest.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from align.curation.jobs.job import Fault
from align.data.bad import BLANK
from align.data.captions import is_blank
from align.data.names import TEXT
from align.media.box import read_box
from align.media.picture import PICTURE
from align.values import BadSample

WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
MANY = "many"  # more than ten
NO_TEXT = f"region_text/{BLANK}"


def complete_regions(members: Mapping[str, bytes]) -> tuple[dict[str, bytes], list[Fault]]:
    """Return the members with a ``box`` of fractions in each of the json's ``regions``, and the faults of some.

    ``pixels``: [left, top, right, bottom] of a region in the picture, from which the box follows. ``mask``: the number
    of a region's pixels in the member ``mask``, from which it follows where there are no ``pixels``. A region without
    any of the three, with a bad one, or without a text is a fault and stays as it is. A sample without captions gets
    them of the texts of regions with a box.
    """
    stated = json.loads(members["json"]) if "json" in members else None
    regions = stated.get("regions") if isinstance(stated, dict) else None
    if not isinstance(regions, list):
        return dict(members), []
    faults: list[Fault] = []
    before = json.dumps(stated)
    known: list[tuple[str, Sequence[float]]] = []
    shape = frames = None
    for region in regions:
        if not isinstance(region, dict):
            faults.append(("region/list", "json"))
            continue
        try:
            if "box" not in region and "pixels" in region:
                shape = shape or _picture(members).shape
                region["box"] = from_pixels(region.pop("pixels"), shape[0], shape[1])
            elif "box" not in region and "mask" in region:
                frames = boxes_of(_mask(members)) if frames is None else frames
                if isinstance(region["mask"], int) and region["mask"] in frames:
                    region["box"] = frames[region["mask"]]
            said = _read_text(region)
            if said is None:
                faults.append((NO_TEXT, "json"))
            if "box" not in region:
                faults.append(("region/no-box", "json"))
            elif (box := read_box(region["box"])) and said is not None:
                known.append((said, box))
        except BadSample as error:
            faults.append((f"region/{error.reason.rpartition('/')[2]}", "json", error.detail))
    out = dict(members)
    if json.dumps(stated) != before:
        out["json"] = json.dumps(stated, ensure_ascii=False).encode()
    if not any(name.partition(".")[0] in ("text", TEXT) for name in members) and (lines := captions(known)):
        out[f"text.{TEXT}"] = "\n".join(lines).encode()
    return out, faults


def from_pixels(pixels: Any, H: int, W: int) -> list[float]:
    """Return [left, top, right, bottom] as fractions of a picture of H x W pixels. Raises BadSample (box)."""
    if not isinstance(pixels, list) or len(pixels) != 4 or not all(type(x) in (int, float) for x in pixels):
        raise BadSample("box", f"{str(pixels)[:60]}: pixels are [left, top, right, bottom], four numbers")
    return [round(x / side, 6) for x, side in zip(pixels, (W, H, W, H), strict=True)]


def boxes_of(mask: np.ndarray) -> dict[int, list[float]]:
    """Return number -> the frame of its pixels as fractions, of a mask (H, W) of whole numbers. 0 is nothing."""
    H, W = mask.shape
    found = {}
    for number in np.unique(mask[mask > 0]).tolist():
        ys, xs = np.nonzero(mask == number)
        corners = xs.min() / W, ys.min() / H, (xs.max() + 1) / W, (ys.max() + 1) / H
        found[int(number)] = [round(float(x), 6) for x in corners]
    return found


def captions(known: Sequence[tuple[str, Sequence[float]]]) -> list[str]:
    """Return a caption of all regions, and two of those in the middle and the others. known: text and box of each.

    A region is in the middle where its centre lies in the middle half of both sides.

    >>> captions([("plane", [0, 0, 1, 1])] * 3 + [("car", [0, 0, 0.2, 0.2])])
    ['three planes and a car', 'three planes in the middle', 'a car around the middle']
    """
    middle = [text for text, box in known if all(0.25 <= (a + b) / 2 <= 0.75 for a, b in _sides(box))]
    around = [text for text, box in known if not all(0.25 <= (a + b) / 2 <= 0.75 for a, b in _sides(box))]
    if not known:
        return []
    out = [count_names([text for text, _ in known])]
    if middle and around:
        out += [f"{count_names(middle)} in the middle", f"{count_names(around)} around the middle"]
    return out


def _read_text(region: Mapping[str, Any]) -> str | None:
    """Return the text of a region in one line, None where it has none or a blank one."""
    text = region.get("text")
    return None if not isinstance(text, str) or is_blank(text) else " ".join(text.split())


def count_names(names: Sequence[str]) -> str:
    """Return names with their numbers, the most frequent first.

    >>> count_names(["plane", "car", "plane"]), count_names(["bus"] * 11 + ["ox"])
    ('two planes and a car', 'many buses and an ox')
    """
    parts = []
    for name, n in Counter(names).most_common():
        if n == 1:
            parts.append(
                name if name.startswith(("a ", "an ", "the ")) else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
            )
        else:
            parts.append(f"{WORDS[n] if n < len(WORDS) else MANY} {_plural(name)}")
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _plural(name: str) -> str:
    bare = name.removeprefix("a ").removeprefix("an ")
    if bare.endswith("y") and bare[-2:-1] not in "aeiou":
        return f"{bare[:-1]}ies"
    return f"{bare}es" if bare.endswith(("s", "x", "z", "ch", "sh")) else f"{bare}s"


def _sides(box: Sequence[float]) -> tuple[tuple[float, float], tuple[float, float]]:
    return (box[0], box[2]), (box[1], box[3])


def _picture(members: Mapping[str, bytes]) -> np.ndarray:
    name = next((name for name in sorted(members) if name.partition(".")[0] == PICTURE.modality), None)
    if name is None:
        raise BadSample("box", "pixels need the picture, whose size they are divided by")
    return PICTURE.read(members[name])


def _mask(members: Mapping[str, bytes]) -> np.ndarray:
    """Return the member ``mask`` as (H, W) numbers: a picture of indices or greys, or a .npy."""
    name = next((name for name in sorted(members) if name.partition(".")[0] == "mask"), None)
    if name is None:
        raise BadSample("box", "a region states a mask, and the sample has no member mask")
    try:
        if name.endswith(".npy"):
            mask = np.load(io.BytesIO(members[name]), allow_pickle=False)
        else:
            from PIL import Image

            mask = np.asarray(Image.open(io.BytesIO(members[name])))
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise BadSample("box", f"{name}: {error}") from None
    if mask.ndim != 2 or mask.dtype.kind not in "iu":
        raise BadSample("box", f"{name} has shape {mask.shape} of {mask.dtype}; a mask is (H, W) of whole numbers")
    return mask
