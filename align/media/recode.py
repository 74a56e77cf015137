"""Settings of a build that make members smaller: images scaled, sound at one rate, points in half precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import inf
from typing import Any, Literal, final

WRITTEN_PICTURES = {"jpeg": "jpg", "webp": "webp", "png": "png"}  # format -> suffix
WRITTEN_SOUNDS = {"flac": ("FLAC", "PCM_16"), "ogg": ("OGG", "VORBIS"), "opus": ("OGG", "OPUS")}  # as libsndfile says
OPUS = (8000, 12000, 16000, 24000, 48000)  # Hz: the rates of the codec


@final
@dataclass(frozen=True)
class Recode:
    """Changes to the members of the modalities image, audio and points. None leaves them byte for byte.

    Equal input gives equal bytes (with the same versions of Pillow, libsndfile and torchaudio).

    Args:
        image_size: pixels of the short side. Larger images are scaled down to it (Lanczos), never up. An image that is
            written anew is upright 8-bit RGB.
        image_format: the format of all images. None keeps theirs (gif, bmp and tiff become png, avif becomes webp).
        image_quality: 1 to 100, for jpeg and webp. Default: 90 where images are written anew and nothing is said.
        audio_format: flac (16 bits), ogg (Vorbis) or opus (in Ogg). Sound becomes mono.
        sample_rate: Hz. The format is flac where none is said.
        image_levels: the values of black and white in images of more than 8 bits, which are all written anew. See
            ``levels`` of the image preprocess.
        points_dtype: of point clouds. float16 keeps 3 digits: enough for objects, too little for maps.

    Raises ValueError for settings that do not fit each other, or that the installed libraries cannot write.
    """

    image_size: int | None = None
    image_format: Literal["jpeg", "png", "webp"] | None = None
    image_quality: int | None = None
    audio_format: Literal["flac", "ogg", "opus"] | None = None
    sample_rate: int | None = None
    points_dtype: Literal["float16", "float32"] | None = None
    image_levels: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.image_size is not None and self.image_size < 1:
            raise ValueError(f"image_size={self.image_size}: the short side has at least one pixel")
        if self.image_quality is not None and not 1 <= self.image_quality <= 100:
            raise ValueError(f"image_quality={self.image_quality}: from 1 to 100")
        if self.image_quality is not None and self.image_format == "png":
            raise ValueError("image_quality means nothing with image_format=png, which loses nothing; use jpeg or webp")
        if self.sample_rate is not None and not 1000 <= self.sample_rate <= 768_000:
            raise ValueError(f"sample_rate={self.sample_rate}: from 1000 to 768000 Hz")
        if self.audio_format == "opus" and self.sample_rate not in OPUS:
            raise ValueError(f"opus needs a sample_rate of {', '.join(map(str, OPUS))}; got {self.sample_rate}")
        check_levels(self.image_levels)
        if self.image_format == "webp":
            from PIL import features

            if not features.check("webp"):
                raise ValueError("this Pillow cannot write webp; use image_format=jpeg, or a Pillow with webp")
        if self.audio_format is not None:
            import soundfile

            form, subtype = WRITTEN_SOUNDS[self.audio_format]
            if subtype not in soundfile.available_subtypes(form):
                raise ValueError(
                    f"libsndfile {soundfile.__libsndfile_version__} cannot write {self.audio_format}; use "
                    "audio_format=flac, or a newer libsndfile"
                )

    def __bool__(self) -> bool:
        return any(value is not None for value in asdict(self).values())

    def settings(self) -> dict[str, Any]:
        """Return the settings and the versions of the libraries, which make the bytes, or {} where nothing is set."""
        if not self:
            return {}
        import PIL
        import soundfile
        import torchaudio

        versions = {"pillow": PIL.__version__, "libsndfile": soundfile.__libsndfile_version__}
        return {**asdict(self), **versions, "torchaudio": torchaudio.__version__}


def check_levels(levels: Sequence[float] | None) -> None:
    """Raise ValueError unless ``levels`` are two finite numbers, black below white, or None."""
    if levels is not None and not (len(levels) == 2 and -inf < levels[0] < levels[1] < inf):
        raise ValueError(f"levels={tuple(levels)} are the values of black and white, as in (0, 4095)")


def for_browsers(modality: str) -> Recode | None:
    """Return the settings with which a member that browsers cannot show becomes one that they can, or None.

    They are made when they are asked for: a Recode looks at the libraries that it needs.
    """
    match modality:
        case "image":
            return Recode(image_size=1280, image_format="webp")
        case "audio":
            return Recode(audio_format="flac")
        case _:
            return None
