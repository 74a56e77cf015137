"""Words: one text from a member's bytes, a file or a string."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from align.media.reading import bad, open_source

LIMIT = 100_000  # bytes or characters; what is longer is no caption


def read_text(source: Any) -> str:
    """One stripped string from a member's bytes, from a file (a ``Path``) or from the string itself.

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
