"""Errors that say which tower or which input they are about."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from align.values import BadSample


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Puts ``what`` in front of an error's message; the error stays of its kind."""
    try:
        yield
    except BadSample as error:
        raise BadSample(error.reason, f"{what}: {error.detail}" if error.detail else what) from error
    except (OSError, TypeError, ValueError) as error:
        kind = next(k for k in (FileNotFoundError, OSError, TypeError, ValueError) if isinstance(error, k))
        raise kind(f"{what}: {error}") from error


def short(x: Any) -> str:
    """An input in a message: what it says where it is text or a path, else its type."""
    text = repr(str(x)) if isinstance(x, str | os.PathLike) else f"<{type(x).__name__}>"
    return text if len(text) <= 100 else text[:97] + "..."
