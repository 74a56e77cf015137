"""Errors as the user sees them: one line on stderr, and the exit code."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class Refused(Exception):
    """An end of the command with one line on stderr and this exit code."""

    def __init__(self, message: str, code: int = 1):
        super().__init__(message)
        self.code = code


def nearest(name: str, names: Iterable[str]) -> str:
    """Return ``did you mean NAME?``, or the list of names where none is near.

    >>> nearest("--hlep", ["--help", "--json"])
    'did you mean --help?'
    """
    names = sorted(set(names))
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"there are: {', '.join(names)}"


def explain(error: Exception) -> tuple[str | None, int]:
    """Return the line and the exit code for an error, (None, 1) for a bug of ours."""
    if isinstance(error, Refused):
        return str(error), error.code
    code = getattr(error, "exit_code", 1)
    named = any(kind.__name__ in ("BadSample", "TooManyBad") for kind in type(error).__mro__)
    if isinstance(error, (ValueError, OSError, ImportError)) or named:
        text = str(error) if not isinstance(error, OSError) or error.strerror is None else _os_error(error)
        text += "".join(f" ({note})" for note in getattr(error, "__notes__", ()) if note.startswith("while "))
        return text if code == 3 else _one_line(text) or type(error).__name__, code
    return None, code


def _one_line(text: str) -> str:
    """Return a message in one line. A name in a file may hold line ends and codes of the terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(text.split()))


def _os_error(error: OSError) -> str:
    if isinstance(error, FileNotFoundError) and error.filename is not None:
        return f"no such file or folder: {error.filename}"
    return f"{error.strerror}: {error.filename}" if error.filename is not None else str(error)
