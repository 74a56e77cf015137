"""Published image processors: how a library makes rows of pictures, by name."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from align.preprocess.base import check_choice

Interpolation = Literal["bicubic", "bilinear", "nearest", "lanczos", "box", "hamming"]
Backend = Literal["torch", "pil", "transformers"]
Resize = Literal["crop", "squash", "pad"]
Alpha = Literal["white", "drop", "keep"]

MEANS = {
    "clip": (0.48145466, 0.4578275, 0.40821073),
    "imagenet": (0.485, 0.456, 0.406),
    "half": (0.5, 0.5, 0.5),
    "plain": (0.0, 0.0, 0.0),
}
STDS = {
    "clip": (0.26862954, 0.26130258, 0.27577711),
    "imagenet": (0.229, 0.224, 0.225),
    "half": (0.5, 0.5, 0.5),
    "plain": (1.0, 1.0, 1.0),
}


class Processor(NamedTuple):
    """Arguments of ``Image`` that a processor fixes. Its size belongs to the model."""

    mean: str
    resize: Resize = "crop"
    interpolation: Interpolation = "bicubic"
    backend: Backend = "torch"
    crop: float = 1.0
    fill: float = 0.0
    alpha: Alpha = "white"
    channels: int = 3
    bits: Literal[8, 16, 32] | None = None


OURS = Processor("clip")
"""The arguments where no preset is named."""

PRESETS = {
    "openai-clip": Processor("clip", backend="pil", alpha="keep"),
    "clip-hf": Processor("clip", backend="transformers"),
    "siglip": Processor("half", "squash", backend="transformers"),
    "imagenet": Processor("imagenet", interpolation="bilinear", backend="pil", crop=0.875, alpha="drop"),
    "pe-core": Processor("half", "squash", "bilinear", "pil", alpha="keep"),
    "imagebind": Processor("clip", backend="pil", alpha="drop"),
    "imagebind-thermal": Processor("plain", backend="pil", alpha="drop", channels=1, bits=8),
}
"""Published processors, and the traps of each.

- openai-clip: open_clip's ``image_transform``, through PIL. The result of PIL's bicubic differs from torch's by up to 2
  of 255. open_clip scales a transparent picture with its alpha and drops the alpha afterwards, so transparent parts
  come out black.
- clip-hf: ``CLIPImageProcessor`` of transformers 5, on uint8 through torchvision. Its centre crop rounds down where
  PIL's and torchvision's round half to even. So the crop of a picture may start one pixel before that of openai-clip.
- siglip: ``SiglipImageProcessor`` of transformers 5. Both sides are scaled to the size, so a picture is distorted.
  Checkpoints of SigLIP 2 state bilinear.
- imagenet: the default evaluation of timm and of torchvision. The short side is scaled to size / .875, in PIL.
  Many models of timm state another share and interpolation (``TimmImage.wants``).
- pe-core: open_clip's configuration of the Perception Encoder: squashed and bilinear, where CLIP crops and is bicubic.
- imagebind: ``load_and_transform_vision_data``. CLIP's, but it drops the alpha of a picture first.
- imagebind-thermal: our choice, because ImageBind published none. One channel in [0, 1] without mean and std, scaled and
  cut as its pictures are. People who measured LLVIP with its weights found 62.4 % so, and 55.2 % with CLIP's mean and
  std (pull request 73 of its repository). The paper has 63.4 %. A heat map in colours becomes grey, which is not heat.

No processor turns a photograph upright by its EXIF tag, and all of them cut 16-bit greys off at 255. Here pictures are
upright, and 16 bits are scaled. open_clip scales a picture with a palette or of one bit by the nearest pixel, and CMYK
before it becomes RGB, 1 of 255 apart. Here they become RGB first, as in open_clip's own loader of training data.
"""


def resolve(preset: str | None, given: dict[str, Any]) -> dict[str, Any]:
    """Return ``given`` with the processor's values in place of None. ``std`` follows ``mean`` unless it is given.

    Raises ValueError for a preset that is not known.
    """
    if preset is not None:
        check_choice("preset", preset, tuple(PRESETS))
    processor = OURS if preset is None else PRESETS[preset]
    return {name: getattr(processor, name) if value is None else value for name, value in given.items()}


def n_numbers(
    name: str, value: str | tuple[float, ...] | list[float], presets: dict[str, tuple[float, ...]], n: int
) -> tuple[float, ...]:
    """Return a preset's numbers, or the ``n`` that were given. Raises ValueError for another count."""
    words = {3: "three"}.get(n, str(n))
    if isinstance(value, str):
        check_choice(name, value, tuple(presets))
        if len(set(presets[value])) == 1:
            return presets[value][:1] * n
        if n != 3:
            raise ValueError(f"{name}={value!r} is of three channels, and channels={n}; give {n} numbers")
        return presets[value]
    if len(value) != n or (name == "std" and not all(v > 0 for v in value)):
        raise ValueError(f"{name}={value!r} must be {words} {'positive ' if name == 'std' else ''}numbers, or a preset")
    return tuple(float(v) for v in value)
