"""A medium: one kind of file, with everything that the house asks of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Self, final

if TYPE_CHECKING:
    import numpy as np

    from align.media.recode import Recode

Severity = Literal["error", "warning", "note"]
Element = Literal["picture", "sound", "cloud", "text", "drawing"]
Cells = list[list[tuple[tuple[int, int, int], tuple[int, int, int]]]]
"""Lines of cells for a terminal, each with the colour of its upper and of its lower half."""


class Note(NamedTuple):
    """Something to say of a member that can be read."""

    reason: str
    detail: str = ""


class Oddity(NamedTuple):
    """A property whose rare values are odd in a set, such as a sample rate.

    words: its case, of the value and the most frequent one ("{} Hz, most have {}"). expected: its case where the user
    says which value is right.
    """

    reason: str
    words: str
    expected: str = ""


class Examined(NamedTuple):
    """Facts about a member that can be read.

    faults: oddities of the member alone. properties: values of the medium's ``odd`` properties. text: a caption, which
    is compared with the others up to case and spaces. content: the argument of ``fingerprint``, or None where it
    holds too little to be compared.
    """

    faults: Sequence[Note] = ()
    properties: Mapping[str, str] = {}
    text: str | None = None
    content: Any = None


class Measures(NamedTuple):
    """Numbers of a member (``seconds``), and values that are counted (``Hz``)."""

    quantities: Mapping[str, float]
    kinds: Mapping[str, str]


class Stored(NamedTuple):
    """The bytes that a shard gets, their suffix, and notes about them."""

    data: bytes
    suffix: str
    notes: Sequence[Note] = ()


@final
@dataclass(frozen=True)
class Face:
    """A member made small for a page, as data and never as HTML.

    element: how it is drawn. data and more, by element:
    picture: the bytes of a file, and its ``type``.
    sound: the bytes of a file, its ``type``, ``seconds`` and ``peaks`` (the loudness of equal parts, as bytes).
    cloud: P·3 int8 places, P·3 int8 normals and P·3 uint8 colours, and the ``radius``: place 127 in the cloud's units.
    text: a string.
    drawing: polylines, each a list of (x, y), y upwards, in any unit.
    """

    element: Element
    data: Any
    more: Mapping[str, Any] = field(default_factory=dict)


class Medium(ABC):
    """A kind of file: read, described, checked, compared, written anew and shown.

    A medium states as much as it knows: only ``name``, ``suffixes`` and ``read`` are needed. Methods that take a
    member's bytes may raise BadSample. Its reason is MODALITY/why, or why alone.
    """

    def __init_subclass__(cls) -> None:
        if cls.files and cls.convert is Medium.convert:
            raise TypeError(f"{cls.__name__} has files ({', '.join(cls.files)}) and no convert()")

    name: ClassVar[str]
    modality: str = ""
    """The modality of such files in a folder, or "" for a medium that only a modality's name tells."""
    suffixes: ClassVar[tuple[str, ...]] = ()
    """Suffixes of members, the preferred one first."""
    files: ClassVar[tuple[str, ...]] = ()
    """Suffixes of files that become another member: see ``convert``."""
    folders: ClassVar[tuple[str, ...]] = ()
    """Names that people give to a folder of such files."""
    reasons: ClassVar[Mapping[str, tuple[Severity, str]]] = {}
    """Reasons of ``read``, ``examine`` and ``recode``: severity and meaning. A reason without a line is an error."""
    odd: ClassVar[Mapping[str, Oddity]] = {}
    """Properties whose rare values are odd in a set."""
    element: ClassVar[Element | None] = None
    """The element of all its faces, or None where only a face tells."""
    columns: ClassVar[Mapping[str, str]] = {}
    """Columns of a filter's condition: name -> key of ``describe``."""

    @abstractmethod
    def read(self, source: bytes | Path) -> Any:
        """Return the content of a member or a file. Raises BadSample."""

    def describe(self, data: bytes) -> dict[str, Any]:
        """Return facts about a member, for JSON and for people, from its header where that has them."""
        return {}

    def measure(self, about: Mapping[str, Any]) -> Measures:
        """Return the parts of a description that are summed up over a set, and those that are counted."""
        plain = {name: x for name, x in about.items() if isinstance(x, int | float | str) and not isinstance(x, bool)}
        texts = {name: x for name, x in plain.items() if isinstance(x, str)}
        return Measures({name: x for name, x in plain.items() if not isinstance(x, str)}, texts)

    def say(self, about: Mapping[str, Any], size: int) -> str:
        """Return a description in a few words. size: the member's bytes."""
        facts = [f"{name} {x:g}" if isinstance(x, float) else f"{name} {x}" for name, x in about.items()]
        return ", ".join(facts or [f"{size} bytes"])

    def column(self, name: str, about: Mapping[str, Any], rows: Sequence[bytes]) -> Any:
        """Return a sample's value in one of ``columns``, or None. about: its first row's description."""
        return about.get(self.columns[name])

    def examine(self, data: bytes, suffix: str, modality: str) -> Examined:
        """Read a member and look for oddities in it. Raises BadSample."""
        return Examined(content=self.read(data))

    def fingerprint(self, content: Any) -> tuple[np.ndarray, np.ndarray] | None:
        """Return (8,) uint16, the bits, and (48,) uint8, coarse levels; or None for content that is not compared.

        Near duplicates differ in at most 10 bits and by at most 24 in each level.
        """
        return None

    def encode(self, content: Any) -> bytes | None:
        """Return an object that a program gives as a member's bytes, or None for another type."""
        return None

    def convert(
        self, source: bytes | Path, suffix: str, *, points: int, seed: int, within: Path | None = None
    ) -> Stored:
        """Return the member that one of ``files`` becomes. Raises BadSample.

        points: of a sampled surface. seed: of the draw. within: the folder that a file may refer into.
        """
        raise NotImplementedError  # a class with ``files`` has its own

    def recode(self, data: bytes, suffix: str, modality: str, settings: Recode) -> Stored:
        """Return the member that a shard stores: the same bytes, unless ``settings`` ask for others. Raises BadSample.

        Notes are for the reasons in ``align.data.bad.NOTED``. Any other reason counts as a fault."""
        return Stored(data, suffix)

    def notes_again(self, data: bytes) -> bool:
        """Return whether a check of the stored bytes finds the notes of ``recode`` by itself."""
        return False

    def advise(self, path: Path) -> str:
        """Return how a file of a related format that is not read becomes one that is, or ""."""
        return ""

    def face(self, data: bytes, suffix: str) -> Face | None:
        """Return a member made small for a page, or None."""
        return None

    def sketch(self, data: bytes, *, colours: bool) -> str | Cells | None:
        """Return a drawing in characters, or in coloured cells where the terminal has colours."""
        return None

    @final
    def with_modality(self, modality: str) -> Self:
        """Return the same medium as that of another modality."""
        out = copy(self)
        out.modality = modality
        return out
