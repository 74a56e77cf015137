"""ImageBind: one of ImageBind's towers, from rows to its unit vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align.encoders.base import Encoder
from align.encoders.imagebind.block import EPS, Block
from align.encoders.imagebind.sizes import HUGE, Sizes
from align.encoders.imagebind.stems import Patches, Words
from align.encoders.imagebind.weights import put_tower, read_origin, read_tower
from align.encoders.transformer import run_blocks
from align.values import Features


class Kind(NamedTuple):
    """Parts in which the towers differ, beside their sizes."""

    wants: Callable[[Sizes], dict[str, Any]]
    agrees: Callable[[Sizes], dict[str, Any]]
    """Attributes that must be equal in the tower and its preprocess."""
    trunk_norm: bool = False
    stem_norm: bool = True
    extra: bool = True


def _wants(preprocess: str, **arguments: Any) -> dict[str, Any]:
    return {"class_path": f"align.preprocess.{preprocess}", "init_args": arguments}


def _picture(sizes: Sizes) -> dict[str, Any]:
    return {"channels": sizes.row[0], "size": list(sizes.row[-2:])}


KINDS = {
    "image": Kind(
        lambda s: _wants("Image", preset="imagebind", size=s.row[-1]),
        _picture,
        trunk_norm=True,
        stem_norm=False,
        extra=False,
    ),
    "text": Kind(
        lambda s: _wants("Tokens", context=s.row[0]),
        lambda s: {"context": s.row[0], "vocabulary": s.vocabulary},
        stem_norm=False,
        extra=False,
    ),
    "audio": Kind(lambda s: _wants("Audio", preset="imagebind-audio"), lambda s: {"n_mels": s.row[1]}),
    "depth": Kind(lambda s: _wants("Depth", preset="imagebind-depth", size=s.row[-1]), _picture),
    "thermal": Kind(lambda s: _wants("Image", preset="imagebind-thermal", size=s.row[-1]), _picture),
    "imu": Kind(
        lambda s: _wants("Signal", preset="imagebind-imu", channels=s.row[0], length=s.row[1]),
        lambda s: {"channels": s.row[0]},
    ),
}


@final
class ImageBind(Encoder):
    """One tower of ImageBind (Girdhar et al. 2023, arXiv:2305.05665, section 3.3): rows -> unit vectors (n, W).

    ======= =================================================== ============ =====
    name    row                                                 extra key    scale
    ======= =================================================== ============ =====
    image   (3, 224, 224), or (3, 2, 224, 224): two frames      no           1
    text    (77,) ids of CLIP's byte pairs                      no           learned
    audio   (1, 128, 204) log-mel                               yes          20
    depth   (1, 224, 224) disparity                             yes          5
    thermal (1, 224, 224)                                       yes          10
    imu     (6, 2000)                                           yes          5
    ======= =================================================== ============ =====

    Values are (n, *row), or (n, clips, *row): then the vector of a row is the mean of its clips' unit vectors, which
    is shorter than 1. The published model gives ``scale`` times these vectors, and its scores are their plain products.

    Its traps: layer norm has an epsilon of 1e-5 in the stem and 1e-6 elsewhere. In four towers the attention has one
    more key and value, learned ones. A picture is two equal frames. A text is read at its largest id, the end mark,
    and a token sees those before it alone. Positions are learned for rows of one size, and no other is taken (the
    publisher's code stretches those of square pictures). Published training dropped paths (audio .1, IMU .7) and half
    of IMU's features before the last matrix; here nothing is dropped.

    Args:
        modality: image, text, audio, depth, thermal or imu. A video is rows of ``image`` with clips.
        width, trunk_width, depth, heads: of the vectors, of the tokens, blocks, and a divisor of trunk_width.
        row: shape of a row. Of pictures with their frames.
        kernel, stride: of a patch, one number a side of the row.
        vocabulary: of text.
        scale: multiplier of the published vectors. It changes no features.
        checkpointing: train with fewer activations in memory, as ``run_blocks`` says.
        pretrained: a file of one or all towers, as imagebind_huge.pth. Only this tower of it is read.

    Arguments that are left out are imagebind_huge's, or the file's. Raises ValueError for weights that do not fit.
    """

    lengths = False  # takes a tensor alone

    def __init__(
        self,
        modality: str = "image",
        width: int | None = None,
        trunk_width: int | None = None,
        depth: int | None = None,
        heads: int | None = None,
        row: Sequence[int] | None = None,
        kernel: Sequence[int] | None = None,
        stride: Sequence[int] | None = None,
        vocabulary: int | None = None,
        scale: float | None = None,
        checkpointing: bool = False,
        pretrained: str | None = None,
    ):
        super().__init__()
        if modality not in KINDS:
            raise ValueError(f"ImageBind has no tower {modality!r}; its towers are {', '.join(KINDS)}")
        path = None if pretrained is None else Path(pretrained)
        tensors, base = ({}, HUGE[modality]) if path is None else read_tower(path, modality)
        given = {"width": width, "trunk_width": trunk_width, "depth": depth, "heads": heads, "row": row}
        given |= {"kernel": kernel, "stride": stride, "vocabulary": vocabulary, "scale": scale}
        sizes = base._replace(**{name: _plain(x) for name, x in given.items() if x is not None})
        self.modality, self.checkpointing, self.pretrained = modality, checkpointing, None
        self.width, self.trunk_width, self.depth, self.heads = sizes[:4]
        self.row, self.kernel, self.stride = list(sizes.row), list(sizes.kernel), list(sizes.stride)
        self.vocabulary, self.scale = sizes.vocabulary, sizes.scale
        self._sizes = sizes
        vars(self).update(KINDS[modality].agrees(sizes))
        with nullcontext() if path is None else torch.device("meta"):  # weights that are read need no random ones
            self._build(sizes, KINDS[modality])
        if path is not None:
            put_tower(self, modality, tensors, path)
            self.origin = read_origin(path, modality, sizes)

    def _build(self, sizes: Sizes, kind: Kind) -> None:
        inner = sizes.trunk_width
        self.stem = (
            Patches(sizes.row, sizes.kernel, sizes.stride, inner, kind.stem_norm)
            if sizes.vocabulary is None
            else Words(sizes.vocabulary, sizes.row[0], inner)
        )
        self.trunk_norm = nn.LayerNorm(inner, EPS) if kind.trunk_norm else nn.Identity()
        self.blocks = nn.ModuleList(Block(inner, sizes.heads, kind.extra) for _ in range(sizes.depth))
        self.norm = nn.LayerNorm(inner, EPS)
        self.project = nn.Linear(inner, sizes.width, bias=False)

    def wants(self) -> dict[str, Any]:
        return KINDS[self.modality].wants(self._sizes)

    def also_wants(self) -> Sequence[dict[str, Any]]:
        if len(self.row) != 4:
            return ()
        return (_wants("VideoClips", preset="imagebind-video", frames=self.row[1], size=self.row[-1]),)

    def encode(self, values: Tensor) -> Features:
        rows, clips = self._split_clips(values)
        x = self.trunk_norm(self.stem(rows))  # (n · clips, L, inner)
        if self.vocabulary is None:
            x = run_blocks(self.blocks, x, checkpointing=self.checkpointing)
            one = x[:, 0]
        else:
            before = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
            x = run_blocks(self.blocks, x, before, self.checkpointing)
            one = x.gather(1, rows.argmax(1)[:, None, None].expand(-1, 1, x.shape[2]))[:, 0]
        unit = F.normalize(self.project(self.norm(one)), dim=-1)  # (n · clips, W)
        return Features(unit if clips is None else unit.unflatten(0, (-1, clips)).mean(1))

    def _split_clips(self, values: Tensor) -> tuple[Tensor, int | None]:
        """Return (n · clips, *row) and the number of clips, None for rows without. Raises ValueError for other rows."""
        whole = tuple(self.row)
        still = (whole[0], *whole[2:]) if len(whole) == 4 else whole  # one picture for all frames
        shape = tuple(values.shape)
        for row in (whole, still):
            if shape[1:] == row:
                return self._fill_frames(values), None
            if shape[2:] == row and shape[1]:
                return self._fill_frames(values.flatten(0, 1)), shape[1]
        takes = ", ".join(map(str, still))
        raise ValueError(
            f"ImageBind's {self.modality} takes (n, {takes}) or (n, clips, {takes}), got {tuple(values.shape)}"
        )

    def _fill_frames(self, rows: Tensor) -> Tensor:
        """Return rows of pictures with their frames, all equal where there was one."""
        return rows if rows.ndim == 1 + len(self.row) else rows[:, :, None].expand(-1, -1, self.row[1], -1, -1)


def _plain(x: Any) -> Any:
    return tuple(x) if isinstance(x, Sequence) else x
