"""Words: one text from a member's bytes, a file or a string."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, final

from align.media.medium import Examined, Face, Measures, Medium, Note, Severity
from align.media.reading import bad, open_source

LIMIT = 100_000  # bytes or characters of the longest caption
WORDY = 75  # words are tokens at least, and CLIP's 77 hold two marks
SHOWN_LINES = 4  # captions of one sample on a page


@final
class Words(Medium):
    """Texts in UTF-8, one caption a line."""

    name = "words"
    element = "text"
    modality = "text"
    suffixes = ("txt",)
    folders = ("text", "texts", "caption", "captions", "txt")
    columns: ClassVar[Mapping[str, str]] = {"words": "text", "text": "text"}
    reasons: ClassVar[Mapping[str, tuple[Severity, str]]] = {
        "text/mojibake": ("warning", "it holds the replacement character: it was decoded wrongly once"),
        "text/control": ("warning", "it holds control characters"),
        "text/long": ("note", "more than 75 words: CLIP's 77 tokens do not hold it"),
        "text/duplicate": ("note", "the same caption as an earlier row's"),
    }

    def read(self, source: bytes | Path) -> str:
        """Return the text. Raises BadSample as ``read_text``."""
        return read_text(source)

    def describe(self, data: bytes) -> dict[str, Any]:
        return {"text": data.decode("utf-8").splitlines()}

    def measure(self, about: Mapping[str, Any]) -> Measures:
        text = " ".join(about["text"])
        return Measures({"characters": len(text), "words": len(text.split())}, {})

    def say(self, about: Mapping[str, Any], size: int) -> str:
        return " | ".join(about["text"])[:200]

    def column(self, name: str, about: Mapping[str, Any], rows: Sequence[bytes]) -> Any:
        texts = [row.decode("utf-8", "replace") for row in rows]
        return len(texts[0].split()) if name == "words" else "\n".join(texts)

    def examine(self, data: bytes, suffix: str, modality: str) -> Examined:
        text = read_text(data)
        found: list[Note] = []
        short = text if len(text) <= 80 else text[:79] + "…"
        if "\ufffd" in text:
            found.append(Note("text/mojibake", short))
        if any(unicodedata.category(c) == "Cc" and c not in "\t\r\n" for c in text):
            found.append(Note("text/control", "".join(c if c.isprintable() else "·" for c in short)))
        if (words := len(text.split())) > WORDY:
            found.append(Note("text/long", f"{words} words: {short}"))
        return Examined(found, text=text)

    def face(self, data: bytes, suffix: str) -> Face | None:
        return text_face([" ".join(data.decode(errors="replace").split())])


def text_face(lines: Sequence[str]) -> Face | None:
    """Return the first captions of a sample, one a line, or None where all are empty."""
    kept = [line for line in lines if line][:SHOWN_LINES]
    return Face("text", "\n".join(kept)) if kept else None


def read_text(source: Any) -> str:
    """Read one stripped string from a member's bytes, from a file (a ``Path``) or from the string itself.

    Raises BadSample: text/empty, text/not-utf8, text/too-large (more than 100,000 bytes).
    """
    if isinstance(source, str):
        text = source
        if len(text) > LIMIT:
            raise bad("text/too-large", None, f"{len(text)} characters, at most {LIMIT} are read")
        if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
            raise bad("text/not-utf8", None, "the string holds half a surrogate pair")
    elif isinstance(source, bytes | bytearray | memoryview | Path):
        with open_source(source) as file:
            data = file.read(LIMIT + 1)
        if len(data) > LIMIT:
            raise bad("text/too-large", source, f"more than {LIMIT} bytes")
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise bad("text/not-utf8", source, f"byte {error.start} is 0x{data[error.start]:02x}") from None
    else:
        raise TypeError(f"text is read from a str, bytes or a Path, not from {type(source).__name__}")
    text = text.strip()
    if not text:
        raise bad("text/empty", source if isinstance(source, Path) else None, "no characters but white space")
    return text


WORDS = Words()
