"""Silence for libraries that print pages about what they do."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def hush() -> Iterator[None]:
    """Leave out what the block prints, logs and warns. Its errors rise as they are."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    out, err = io.StringIO(), io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
