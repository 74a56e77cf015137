"""Errors that say which tower or which input they are about."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from align.values import BadSample


@contextmanager
def naming(part: str) -> Iterator[None]:
    """Put the name of a part in front of the message of an error in this block. The error keeps its kind."""
    try:
        yield
    except BadSample as error:
        raise BadSample(error.reason, f"{part}: {error.detail}" if error.detail else part) from error
    except (OSError, TypeError, ValueError) as error:
        kind = next(k for k in (FileNotFoundError, OSError, TypeError, ValueError) if isinstance(error, k))
        raise kind(f"{part}: {error}") from error


def short(x: Any) -> str:
    """Return an input as a message shows it: text or a path in at most 100 letters, anything else by its type."""
    text = repr(str(x)) if isinstance(x, str | os.PathLike) else f"<{type(x).__name__}>"
    return text if len(text) <= 100 else text[:97] + "..."
