"""A browser without a window, and a wait that the server's policy allows."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Error, Page, sync_playwright


@contextmanager
def chromium(*flags: str) -> Iterator[Browser]:
    """Open Chromium for a block. Skips the test where the program is absent."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("needs Chromium")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=["--disable-gpu", *flags])
        yield opened
        opened.close()


def until(page: Page, truth: str, *, arg=None, seconds: float = 30) -> None:
    """Wait until an expression is true. The browser's own way would evaluate a string, which the policy forbids."""
    end = time.monotonic() + seconds
    while True:
        try:
            if page.evaluate(truth, arg):
                return
        except Error:  # the page is being left
            pass
        assert time.monotonic() < end, truth
        page.wait_for_timeout(25)
