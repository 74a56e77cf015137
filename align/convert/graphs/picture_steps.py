"""The way of a picture's file to the pixels that a graph takes."""

from __future__ import annotations

from math import floor
from typing import Any

from align.preprocess.image_resize import LONGEST

ALPHA = {
    "white": "transparent parts are shown on white",
    "drop": "the alpha is dropped, and hidden colours show",
    "keep": "a transparent picture is scaled with its alpha (PIL, RGBA), which is dropped then",
}
LIBRARIES = {
    "pil": "PIL.Image.resize",
    "torch": (
        "torch's antialiased interpolation of uint8: as PIL's, but with weights of 16 bits. For each output pixel i of "
        "an axis, scale = in / out, reach = support · max(scale, 1), centre = (i + 0.5) · scale, the pixels from "
        "max(int(centre - reach + 0.5), 0) to min(int(centre + reach + 0.5), in), each with the weight "
        "f((j - centre + 0.5) / max(scale, 1)), divided by their sum. f of bicubic is Keys' cubic with a = -0.5 and "
        "support 2, f of bilinear the triangle with support 1. Weights are rounded to multiples of 2^-p, p the largest "
        "below 22 for which the largest weight stays below 2^15. First along the width, then along the height, each "
        "time (sum + 2^(p-1)) >> p, clipped to [0, 255]"
    ),
}
LIBRARIES["transformers"] = LIBRARIES["torch"]


def list_picture_steps(image: Any) -> list[dict[str, Any]]:
    """Return the steps of ``align.preprocess.Image`` in evaluation."""
    tall, wide = image._sides
    scaled = [floor(side / image.crop) for side in image._sides]
    mode = {1: "L", 3: "RGB", 4: "RGBA"}.get(image.channels)
    decode: dict[str, Any] = {"step": "decode", "how": "upright by its EXIF tag; the first frame", "mode": mode}
    decode |= {"alpha": ALPHA[image.alpha], "bits": image.bits}
    crop: dict[str, Any] = {
        "step": "crop",
        "how": "the middle: top = round((H - height) / 2), half to even, left likewise",
        "height": tall,
        "width": wide,
    }
    if image.backend == "transformers":
        crop["how"] = "the middle: top = (H - height) // 2, left likewise"
    resize: dict[str, Any] = {
        "step": "resize",
        "interpolation": image.interpolation,
        "backend": image.backend,
        "pixels": LIBRARIES[image.backend],
        "height": scaled[0],
        "width": scaled[1],
    }
    steps = [decode]
    if image.resize == "squash":
        resize["how"] = "both sides, whatever the shape was"
    elif image.resize == "pad":
        resize["how"] = "by the largest factor at which it fits; each side is rounded, and 1 at least"
        how = "borders up to the size, the wider half below and to the right"
        crop = {"step": "pad", "how": how, "height": tall, "width": wide, "fill": list(image._fill)}
    else:
        strip = {"step": "strip", "how": "the middle of a longer strip: so many times the short side at most"}
        steps.append(strip | {"times": LONGEST[image.backend]})
        if scaled[0] == scaled[1]:
            resize["how"] = "the short side to this, the long one to int(size · long / short)"
        else:
            resize["how"] = "by the smallest factor at which it covers this; each side is rounded"
    steps += [resize, crop]
    layout = {"step": "layout", "how": "channels first", "shape": [image.channels, tall, wide]}
    return [*steps, layout | {"dtype": {8: "uint8", 16: "uint16", 32: "float32"}[image.bits]}]
