"""Draw the README's picture of the search page: `python docs/make_picture.py INDEX`, an index of the quickstart.

It starts `align serve`, asks with words, a sound and a picture that counts against, and writes docs/search-page.png in
at most 200 KB. It needs Chromium and the packages of the tests (`pip install -e '.[serve,test]'`).
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

MOST = 200_000  # bytes
PLAIN = 24  # colours that are kept exactly
WORDS, SOUND, LESS = "a blue cone", "a sound of metal", "a tube"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", help="folder of an index, or a run with one")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("search-page.png"))
    options = parser.parse_args()
    command = [sys.executable, "-c", "import sys; from align.commands import main; sys.exit(main())"]
    server = subprocess.Popen([*command, "serve", options.index, "--port", "0"], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        url = server.stdout.readline().strip()
        if not url:
            return 1
        options.out.write_bytes(draw(url))
    finally:
        server.terminate()
        server.wait()
    print(f"{options.out}: {options.out.stat().st_size:,} bytes")
    return 0


def draw(url: str) -> bytes:
    """Return the page of a composed query as PNG."""
    program = next((found for name in ("chromium", "google-chrome") if (found := shutil.which(name))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program)
        page = browser.new_page(viewport={"width": 1180, "height": 800}, device_scale_factor=1.5, color_scheme="light")
        sound, less = first(page, url, SOUND, "audio"), first(page, url, LESS, "image")
        fields = [("text", WORDS), ("weight", 1), ("item", f"audio:{sound}"), ("weight", 0.5)]
        fields += [("item", f"image:{less}"), ("weight", -0.5), ("of", "image"), ("fold", "on")]
        for _ in range(2):  # the second time is one of a server that is warm
            page.goto(f"{url}/?{urlencode(fields)}")
        page.wait_for_load_state("networkidle")
        taken = page.screenshot()
        browser.close()
    return shrink(taken)


def first(page: Page, url: str, words: str, of: str) -> str:
    """Return the number of the first hit."""
    page.goto(f"{url}/?{urlencode({'text': words, 'of': of})}")
    return (page.get_attribute(".hit", "id") or "").removeprefix("hit-")


def shrink(png: bytes) -> bytes:
    """Return a picture with as many colours and pixels as fit into MOST bytes."""
    whole = Image.open(io.BytesIO(png)).convert("RGB")
    for scale in (1, 0.85, 0.7, 0.6):
        small = whole.resize((round(whole.width * scale), round(whole.height * scale)), Image.Resampling.LANCZOS)
        palette, out = choose_palette(small), io.BytesIO()
        small.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(out, "PNG", optimize=True)
        if out.tell() <= MOST:
            return out.getvalue()
    raise ValueError(f"the picture does not fit into {MOST:,} bytes")


def choose_palette(picture: Image.Image) -> Image.Image:
    """Return a palette of the colours of the large plain areas, which stay as they are, and of others far apart."""
    colours, counts = np.unique(np.asarray(picture).reshape(-1, 3), axis=0, return_counts=True)
    plain = colours[counts.argsort()[::-1][:PLAIN]].flatten().tolist()
    others = picture.quantize(256 - PLAIN, Image.Quantize.MAXCOVERAGE).getpalette() or []
    out = Image.new("P", (1, 1))
    out.putpalette([*plain, *others])
    return out


if __name__ == "__main__":
    sys.exit(main())
