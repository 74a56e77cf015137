"""Tower: everything between a raw file and the joint space, for one modality."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any, final

import torch
from torch import Tensor, nn

from align.encoders.follower import Follower
from align.heads import Linear
from align.losses.kernels.float32 import in_float32
from align.model.origin import bit_sums, current_origin
from align.model.row_labels import take_labels
from align.preprocess.base import Preprocess
from align.preprocess.wanted import build_wanted, differences
from align.values import FeatureOrigin, Features, Origin, Values

_AGREE = ("of", "size", "channels", "vocabulary", "context", "front_end", "lengths", "sample_rate", "n_mels")
"""Attributes that must be equal in a preprocess and an encoder, where both have them."""
_AT_MOST = ("vocabulary", "context", "frames")
"""Attributes of a preprocess that may not pass an encoder's ``NAME_limit``, where it states one."""


@final
class Tower(nn.Module):
    """Preprocess, encoder and head of one modality.

    ``build`` calls ``head`` with (encoder.width, dim), and from then on ``head`` is the result. ``encoder=None`` is for
    a tower that shares another's encoder (``JointModel(share=...)``). ``preprocess=None`` takes the one that the
    encoder's published weights were trained with (``Encoder.wants``). A warning says where another one differs from it.

    Raises ValueError if the preprocess and the encoder disagree on size, channels, vocabulary or context, and for
    ``preprocess=None`` where the encoder states none.
    """

    def __init__(
        self,
        preprocess: Preprocess | None = None,
        encoder: nn.Module | None = None,
        head: Callable[[int, int], nn.Module] = Linear,
    ):
        super().__init__()
        self.encoder: Any = encoder
        self.head: Any = head
        self._published: dict[str, int] | None = None
        self.fitted_on: FeatureOrigin | None = None  # of a head that was fitted on a cache's features
        self.loaded_from: str | None = None  # the model of align.load_tower
        self.preprocess: Any = preprocess  # a Preprocess, once the encoder is known
        if encoder is not None:
            self._suit(encoder)
            if getattr(encoder, "origin", None) is not None:
                self.mark_origin(encoder.origin)  # pyright: ignore[reportArgumentType]

    def _suit(self, encoder: Any) -> None:
        """Take the preprocess that an encoder wants where there is none, else check that the two agree."""
        wanted = encoder.wants() if hasattr(encoder, "wants") else None
        if self.preprocess is None:
            if wanted is None:
                raise ValueError(f"{type(encoder).__name__} states no preprocess; give one")
            self.preprocess = build_wanted(wanted)
        elif wanted is not None and getattr(encoder, "origin", None) and (odd := self._differences(encoder, wanted)):
            warnings.warn(
                f"the weights of {encoder.origin.source} were trained with other preprocessing: {', '.join(odd)}; "
                "leave preprocess out to take theirs",
                stacklevel=3,
            )
        _agree(self.preprocess, encoder)

    def _differences(self, encoder: Any, wanted: dict[str, Any]) -> list[str]:
        """Return those from the wanted preprocess of the tower's own class where there is one."""
        kind = type(self.preprocess).__name__
        others = encoder.also_wants() if hasattr(encoder, "also_wants") else ()
        same = (other for other in others if other["class_path"].rpartition(".")[2] == kind)
        return differences(self.preprocess, next(same, wanted))

    def mark_origin(self, origin: Origin) -> None:
        """State that the encoder's present weights have this origin. Unless it says changed, they are the published."""
        self.encoder.origin = origin
        self._published = None if origin.changed else bit_sums(self.encoder.state_dict())

    def read_origin(self, weights: Mapping[str, Tensor]) -> Origin | None:
        """Return the origin of the encoder, with ``changed`` for these weights of it, None where it has none."""
        if getattr(self.encoder, "origin", None) is None:
            return None
        return current_origin(self.encoder, self._published, bit_sums(weights))

    def __getattr__(self, name: str) -> Any:
        if (
            name == "encoder" and "_lender" in self.__dict__
        ):  # called only for attributes that the tower itself does not have
            return self._modules["encoder"] if "encoder" in self._modules else self.__dict__["_lender"].encoder
        return super().__getattr__(name)

    def borrow(self, lender: Tower) -> None:
        """Use the encoder of another tower without holding it, so that a state dict has it under the lender alone.

        ``tower.encoder = tower.encoder`` gives the tower its encoder again. Raises ValueError where the tower brought
        another encoder, or where its preprocess does not suit the lender's.
        """
        brought, lent = self.encoder, lender.encoder
        if brought is not None and brought is not lent and read_arguments(brought) != read_arguments(lent):
            raise ValueError(f"has the encoder {_say(brought)}, the one it shares is {_say(lent)}; leave it out")
        self._suit(lent)
        del self.encoder
        self.__dict__["_lender"] = lender  # past nn.Module, which would make it a child

    def build(self, dim: int) -> None:
        """Make the head, of ``dim`` outputs. Raises ValueError where there is one, of another dim or width."""
        if isinstance(self.head, nn.Module):
            made = getattr(self.head, "dim", dim)
            if made != dim:
                raise ValueError(f"has a head of dim {made}, the model's dim is {dim}")
            reads, width = getattr(self.head, "width", None), getattr(self.encoder, "width", None)
            if reads is not None and width is not None and reads != width:
                raise ValueError(f"has a head of width {reads}, {type(self.encoder).__name__} gives {width} numbers")
            return
        width = getattr(self.encoder, "width", None)
        if not isinstance(width, int):
            raise ValueError(f"{type(self.encoder).__name__} needs an attribute 'width', an int; it has {width!r}")
        self.head = self.head(width, dim)
        inner = [part for part in self.head.modules() if part is not self.head and getattr(part, "needs_labels", False)]
        if inner:
            outer, inside = type(self.head).__name__, type(inner[0]).__name__
            raise ValueError(f"{outer} passes no labels on to the {inside} inside it; make {inside} the tower's head")

    def features(self, values: Values, *, generator: torch.Generator | None = None) -> Features:
        """Return the encoder's features of collated values, averaged over the windows of a row where it has several.

        The generator is for the augmentation on the device, and counts in training mode only.
        """
        values, _ = take_labels(values)
        first = next(iter(values.values())) if isinstance(values, dict) else values
        return _average(self.encoder(self.ready(values, generator=generator)), first.shape[0])

    def ready(self, values: Values, *, generator: torch.Generator | None = None) -> Values:
        """Return collated values as the encoder takes them: after the front end, and in the encoder's precision.

        A follower reads the tokens of another tower, in their precision.
        """
        first = next(iter(values.values())) if isinstance(values, dict) else values
        front_end = in_float32(self.preprocess.device, first.device.type)
        values = front_end(values, generator if self.training else None)
        return values if isinstance(self.encoder, Follower) else _cast(values, self.dtype)

    def forward(self, values: Values, *, generator: torch.Generator | None = None, tokens: bool = False) -> Any:
        """Return (n, D), not normalised, for collated values, n first, and with ``tokens`` (n, L, D) and a mask (n, L).

        Raises ValueError for tokens of an encoder that gives none.
        """
        values, labels = take_labels(values)
        return self.embed_features(self.features(values, generator=generator), tokens, labels)

    def embed_features(self, features: Features, tokens: bool = False, labels: Tensor | None = None) -> Any:
        """Return as ``forward``, for features of the encoder.

        labels: (n, K) places of the rows' classes, then -1, for a head that ``needs_labels``.
        """
        asked = {} if labels is None else {"labels": labels}
        if not tokens:
            return self.head(features, **asked)
        if features.tokens is None:
            gives = f"{type(self.encoder).__name__} gives pooled features only"
            raise ValueError(
                f"tokens were asked for, but {gives}; take another encoder, or a loss that reads no tokens"
            )
        pooled, each = self.head(features, tokens=True, **asked)
        mask = None if getattr(self.head, "resamples", False) else features.mask
        if mask is None:
            mask = each.new_ones(each.shape[:2], dtype=torch.bool)
        return pooled, each, mask

    @property
    def has_codes(self) -> bool:
        """True for a head whose entries can be read one by one: its ``weigh`` returns the weights of its codes."""
        return hasattr(self.head, "weigh")

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the encoder, or of the head where the encoder has no weights."""
        return next((p.dtype for part in (self.encoder, self.head) for p in part.parameters()), torch.float32)


def read_arguments(module: Any) -> tuple[type, dict[str, Any]]:
    """Return a module's class and the arguments of its constructor, which it keeps as attributes."""
    names = [name for name in inspect.signature(type(module)).parameters if hasattr(module, name)]
    return type(module), {name: getattr(module, name) for name in names}


def _say(module: Any) -> str:
    kind, arguments = read_arguments(module)
    return f"{kind.__name__}({', '.join(f'{k}={v!r}' for k, v in arguments.items())})"


def _agree(preprocess: Any, encoder: Any) -> None:
    if getattr(preprocess, "videos", False) and not getattr(encoder, "videos", True):
        kind = type(encoder).__name__
        raise ValueError(f"{type(preprocess).__name__} gives frames, {kind} reads none; VideoFrames(image={kind}) does")
    for name in _AGREE:
        gives, takes = getattr(preprocess, name, None), getattr(encoder, name, None)
        if gives is None or takes is None:
            continue
        if name == "size":
            gives, takes = ((x, x) if isinstance(x, int) else tuple(x) for x in (gives, takes))
        if gives != takes:
            says = f"{type(preprocess).__name__} gives {name} {gives}, {type(encoder).__name__} takes {name} {takes}"
            raise ValueError(f"{says}; they have to agree")
    for name in _AT_MOST:
        gives, most = getattr(preprocess, name, None), getattr(encoder, f"{name}_limit", None)
        if gives is not None and most is not None and gives > most:
            says = f"{type(preprocess).__name__} gives {name} {gives}, {type(encoder).__name__} takes at most {most}"
            raise ValueError(f"{says}; they have to agree")


def _average(features: Features, n: int) -> Features:
    """Return (n, W) from (n · windows, W), the windows of a row side by side. A row has the tokens of all of them."""
    if n == 0 or features.pooled.shape[0] == n:
        return features
    tokens, mask = (
        None if x is None else x.unflatten(0, (n, -1)).flatten(1, 2) for x in (features.tokens, features.mask)
    )
    return Features(features.pooled.unflatten(0, (n, -1)).mean(1), tokens, mask)


def _cast(values: Values, dtype: torch.dtype) -> Values:
    """Return floating tensors in the encoder's precision, and integers as they are."""
    if isinstance(values, dict):
        return {name: x.to(dtype) if x.is_floating_point() else x for name, x in values.items()}
    return values.to(dtype) if values.is_floating_point() else values
