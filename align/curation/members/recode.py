"""Members made smaller on the way into a shard: images scaled, sound at one rate, points in half precision."""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass
from typing import Any, Literal, final

from align.curation.members.ogg import with_serial
from align.data.names import row_name
from align.media.pictures.levels import finding
from align.media.pictures.read import decode, from_file, is_deep
from align.preprocess import Audio, Image
from align.values import BadSample

SAVED = {"jpeg": "jpg", "webp": "webp", "png": "png"}
KINDS = {"jpg": "jpeg", "jpeg": "jpeg", "webp": "webp", "png": "png"}
INSTEAD = {"avif": "webp"}  # what is small stays small; the others become png
OPUS = (8000, 12000, 16000, 24000, 48000)  # Hz: the rates of the codec
SUBTYPES = {"flac": ("FLAC", "PCM_16"), "ogg": ("OGG", "VORBIS"), "opus": ("OGG", "OPUS")}
BLOCK = 1 << 16  # frames: libsndfile's Vorbis overflows its stack on a long recording written at once


@final
@dataclass(frozen=True)
class Recode:
    """What becomes of the members of the modalities image, audio and points; None leaves them byte for byte.

    Equal input gives equal bytes (with the same versions of Pillow, libsndfile and torchaudio).

    Args:
        image_size: pixels of the short side; larger images are scaled down to it (Lanczos), never up. Whatever is
            written anew is upright 8-bit RGB.
        image_format: what images become; None keeps theirs (gif, bmp and tiff become png, avif becomes webp).
        image_quality: 1 to 100, for jpeg and webp; 90 where images are written anew and nothing is said.
        audio_format: flac (16 bits), ogg (Vorbis) or opus (in Ogg); sound becomes mono.
        sample_rate: Hz; flac where no format is said.
        image_levels: the values of black and white in images of more than 8 bits, which are all written anew; see
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
        Image(levels=self.image_levels)  # refuses what are no levels
        if self.image_format == "webp":
            from PIL import features

            if not features.check("webp"):
                raise ValueError("this Pillow cannot write webp; use image_format=jpeg, or a Pillow with webp")
        if self.audio_format is not None:
            _can_write(self.audio_format)

    def __bool__(self) -> bool:
        return any(value is not None for value in asdict(self).values())

    def settings(self) -> dict[str, Any]:
        """What the bytes follow from, the versions of the libraries included; empty where nothing is written anew."""
        if not self:
            return {}
        import PIL
        import soundfile
        import torchaudio

        versions = {"pillow": PIL.__version__, "libsndfile": soundfile.__libsndfile_version__}
        return {**asdict(self), **versions, "torchaudio": torchaudio.__version__}

    def __call__(self, name: str, data: bytes) -> tuple[str, bytes]:
        """A member's new name and bytes. Raises BadSample for one that cannot be read, or does not fit the new type."""
        row = row_name(name)
        if row is None or not self:
            return name, data
        stem = name.removesuffix(row.suffix)
        if row.modality == "image" and row.suffix in Image.suffixes:
            return self._image(stem, row.suffix, data)
        if row.modality == "audio" and row.suffix in Audio.suffixes and (self.audio_format or self.sample_rate):
            return self._audio(stem, data)
        if row.modality == "points" and row.suffix == "npy" and self.points_dtype is not None:
            return name, as_dtype(data, self.points_dtype)
        return name, data

    def noted(self, name: str, data: bytes) -> list[str]:
        """Reasons to say something of a picture that is written all the same: those of ``levels.finding``."""
        row = row_name(name)
        if row is None or row.suffix not in Image.suffixes or not is_deep(data):
            return []
        levels = self.image_levels if row.modality == "image" else None
        try:
            used = decode(data, Image().max_pixels, levels, every_bit=True).used
        except BadSample:
            return []  # stored as it is; a check names it
        said = finding(used) if used is not None else None
        return [said[0]] if said else []

    def _image(self, stem: str, suffix: str, data: bytes) -> tuple[str, bytes]:
        deep = self.image_levels is not None and is_deep(data)
        if self.image_size is None and self.image_format is None and self.image_quality is None and not deep:
            return stem + suffix, data
        from PIL import Image as Picture

        pixels = from_file(data, Image().max_pixels, self.image_levels)  # (H, W, 3) uint8
        H, W, _ = pixels.shape
        kind = self.image_format or KINDS.get(suffix) or INSTEAD.get(suffix, "png")
        size = min(self.image_size or min(H, W), H, W)
        if size == min(H, W) and self.image_quality is None and kind == KINDS.get(suffix) and not deep:
            return stem + suffix, data  # nothing to gain
        image = Picture.fromarray(pixels)
        if size < min(H, W):
            place = (max(1, round(W * size / min(H, W))), max(1, round(H * size / min(H, W))))
            image = image.resize(place, Picture.Resampling.LANCZOS)
        out = io.BytesIO()
        try:
            if kind == "png":
                image.save(out, "PNG")
            else:
                image.save(out, kind.upper(), quality=self.image_quality or 90)
        except (OSError, ValueError) as error:  # a side beyond what the format can say
            raise BadSample("image/not-writable", f"{image.width} x {image.height} as {kind}: {error}") from None
        return stem + SAVED[kind], out.getvalue()

    def _audio(self, stem: str, data: bytes) -> tuple[str, bytes]:
        import soundfile

        from align.media.sounds.read import read_sound
        from align.media.sounds.recording import heading

        kind = self.audio_format or "flac"
        limit = Audio().max_seconds
        rate = self.sample_rate or heading(data, limit).rate
        wave = _one_thread(lambda: read_sound(data, rate, limit).numpy())  # (T,) float32
        out = io.BytesIO()
        form, subtype = SUBTYPES[kind]
        try:
            with soundfile.SoundFile(out, "w", rate, 1, subtype, format=form) as file:
                for start in range(0, len(wave), BLOCK):
                    file.write(wave[start : start + BLOCK])
        except (soundfile.SoundFileError, RuntimeError) as error:
            raise BadSample("audio/not-writable", f"{rate} Hz as {kind}: {error}") from None
        encoded = out.getvalue()
        return stem + ("flac" if kind == "flac" else "ogg"), encoded if kind == "flac" else with_serial(encoded, 0)


def as_dtype(data: bytes, dtype: str) -> bytes:
    """A .npy of floats in another precision. Raises BadSample for one that is no array, or too large for it."""
    import numpy as np

    from align.media.npy import read_npy
    from align.preprocess.points import Points

    array = read_npy(io.BytesIO(data), "points", limit=6 * Points().max_points)
    if array.dtype == np.dtype(dtype):
        return data
    if array.dtype.kind != "f":
        raise BadSample("points/dtype", f"{array.dtype}; expected floats")
    with np.errstate(over="ignore"):
        changed = array.astype(dtype)
    if not np.isfinite(changed[np.isfinite(array)]).all():
        raise BadSample("points/range", f"a value of {np.nanmax(np.abs(array)):.3g} does not fit {dtype}")
    out = io.BytesIO()
    np.save(out, np.ascontiguousarray(changed), allow_pickle=False)
    return out.getvalue()


def _one_thread(function: Any) -> Any:
    """Its value, computed on one thread: a sum in another order would be another recording."""
    import torch

    before = torch.get_num_threads()
    if before == 1:
        return function()
    torch.set_num_threads(1)
    try:
        return function()
    finally:
        torch.set_num_threads(before)


def _can_write(kind: str) -> None:
    import soundfile

    form, subtype = SUBTYPES[kind]
    if subtype not in soundfile.available_subtypes(form):
        have = soundfile.__libsndfile_version__
        raise ValueError(f"libsndfile {have} cannot write {kind}; use audio_format=flac, or a newer libsndfile")
