"""Groups of Audio's options: spectrogram, window, augmentation and limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, TypedDict, TypeVar, get_args

from align.preprocess.base import check_at_least, check_choice

Place = Literal["head", "center"]
Pad = Literal["zero", "repeat", "repeat-pad", "reflect"]
Group = TypeVar("Group")


@dataclass(frozen=True)
class Spectrogram:
    """The log-mel spectrogram: (log(max(mel power, floor)) - mean) / std. Silence is a constant.

    Args:
        n_mels: bands.
        n_fft: samples of the Hann window.
        hop: samples from one window to the next.
        f_min: lower end of the bands, in Hz.
        f_max: upper end of the bands, in Hz. None: half the sample rate.
        floor: the least power.
        mean: subtracted from the logarithm.
        std: divides it.
    """

    n_mels: int = 64
    n_fft: int = 400
    hop: int = 160
    f_min: float = 0.0
    f_max: float | None = None
    floor: float = 1e-6
    mean: float = -6.0
    std: float = 5.0

    def __post_init__(self) -> None:
        check_at_least("std", self.std, 1e-6)
        check_at_least("floor", self.floor, 1e-30)
        for name in ("n_mels", "n_fft", "hop"):
            check_at_least(name, getattr(self, name), 1)


@dataclass(frozen=True)
class Window:
    """The part of a recording that makes a row.

    Args:
        place: the part of a longer clip that evaluation hears, always the same. Training hears a random one.
        count: windows that evaluation hears of a clip. Several are spread evenly from its start to its end, `place`
            has no effect, and the tower averages their features. Training hears one.
        pad: fills a shorter clip: with silence ("zero": at its end for "head", on both sides for "center", at random in
            training), with the clip again ("repeat"), with as many whole clips as fit and silence ("repeat-pad", CLAP),
            or with the clip reflected to a multiple of the hop, then silence ("reflect", PE-AV).
    """

    place: Place = "center"
    count: int = 1
    pad: Pad = "zero"

    def __post_init__(self) -> None:
        check_choice("window", self.place, ("head", "center"))
        check_choice("pad", self.pad, get_args(Pad))
        check_at_least("windows", self.count, 1)


@dataclass(frozen=True)
class Augment:
    """Changes that training makes to a row: its level, and SpecAugment's masks.

    Args:
        gain: the level changes by up to so many decibels either way.
        freq_mask: the widest mask, in bands.
        time_mask: the widest mask, in frames.
        masks: how many masks of each kind.
    """

    gain: float = 0.0
    freq_mask: int = 8
    time_mask: int = 16
    masks: int = 2

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            check_at_least(name, value, 0)


@dataclass(frozen=True)
class Limits:
    """Recordings that are refused.

    Args:
        max_seconds: the longest recording that is read. Its header is asked first.
    """

    max_seconds: float = 600.0


class Flat(TypedDict, total=False):
    """Options of the groups by their flat names. `windows` is the count of the window."""

    n_mels: int
    n_fft: int
    hop: int
    f_min: float
    f_max: float | None
    floor: float
    mean: float
    std: float
    windows: int
    pad: Pad
    gain: float
    freq_mask: int
    time_mask: int
    masks: int
    max_seconds: float


def group(
    kind: type[Group],
    given: Group | Mapping[str, Any],
    flat: Mapping[str, Any],
    preset: Mapping[str, Any],
    **names: str,
) -> Group:
    """Return a group: the options that are given, in it or flat, and the preset's for the others.

    given: the group, which states the fields that differ from their defaults, or its fields as a checkpoint has them,
    which states them all. names: field -> its flat name where that is another.
    Raises ValueError where both state one option and differ.
    """
    defaults: Any = kind()
    values = dict(given) if isinstance(given, Mapping) else {f.name: getattr(given, f.name) for f in fields(defaults)}
    stated: Any = kind(**values)
    changes = dict(preset)
    for field in fields(stated):
        name, value = names.get(field.name, field.name), getattr(stated, field.name)
        if value != field.default or (isinstance(given, Mapping) and field.name in given):
            changes[field.name] = value
        if name not in flat:
            continue
        if value not in (field.default, flat[name]):
            here = f"{kind.__name__.lower()}.{field.name}"
            raise ValueError(f"{name}={flat[name]!r} and {here}={value!r} state one option twice; give one of them")
        changes[field.name] = flat[name]
    return replace(defaults, **changes)
