"""SpectrogramImage: spectrograms as pictures, through any image encoder."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn
from torch.nn.functional import interpolate

from align.encoders.base import Encoder
from align.values import Features


@final
class SpectrogramImage(Encoder):
    """Spectrograms (n, 1, n_mels, T) -> the features of an image encoder, which sees them as grey pictures.

    So weights that were trained on photographs serve for sounds: Palanisamy et al. 2020 (arXiv:2007.11154, section 3)
    trained ImageNet's networks on log-mel pictures. The loudest point of a spectrogram is white, whatever its level.
    Black is ``reach`` below it. The lowest band is at the bottom.

    T and the number of bands are free: a picture is scaled to ``sides``, bilinear with antialiasing.

    Args:
        image: any image encoder. Its tokens are the tokens.
        sides: height and width of a picture, in pixels.
        reach: from black to white, in units of the spectrogram. ``align.preprocess.Audio`` with ``mean=0`` and
            ``std=0.2302585`` (ln 10 / 10) has decibels.
        mean, std: of the pictures, whose values are 0 to 1 before.

    Raises ValueError for a reach that is not above 0, and for an encoder without ``width``.
    """

    lengths = False  # takes a tensor alone

    def __init__(
        self,
        image: nn.Module,
        sides: tuple[int, int] = (128, 256),
        reach: float = 60.0,
        mean: float = 0.5,
        std: float = 0.5,
    ):
        super().__init__()
        width = getattr(image, "width", None)
        if not isinstance(width, int):
            kind = type(image).__name__
            raise ValueError(f"SpectrogramImage wraps an image encoder, which has a width; {kind} has none")
        if not reach > 0:
            raise ValueError(f"reach={reach} must be above 0: it is the range from black to white")
        self.image, self.sides, self.reach, self.mean, self.std = image, tuple(sides), reach, mean, std
        self.width: int = width
        self.origin = getattr(image, "origin", None)

    def grid_of(self, values: Tensor) -> tuple[int, int] | None:
        """Return the grid of the picture, whose first row is of the highest bands."""
        find = getattr(self.image, "grid_of", None)
        return None if find is None else find(values.new_empty(0, 1, *self.sides))

    def encode(self, values: Tensor) -> Features:
        if values.ndim != 4 or values.shape[1] != 1:
            raise ValueError(f"SpectrogramImage takes spectrograms (n, 1, n_mels, T), got {tuple(values.shape)}")
        grey = ((values - values.amax((1, 2, 3), keepdim=True)) / self.reach + 1).clamp(0, 1)  # (n, 1, n_mels, T)
        exact = grey.float() if grey.dtype.itemsize < 4 else grey  # bfloat16 has no antialiasing on a CPU
        picture = interpolate(exact.flip(2), self.sides, mode="bilinear", antialias=True)  # (n, 1, H, W)
        channels = getattr(self.image, "channels", None) or 3
        return self.image(((picture - self.mean) / self.std).to(values.dtype).expand(-1, channels, -1, -1))
