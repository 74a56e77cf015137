"""The picture of a card: scores as bars, each with its interval, as a PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

from align.page.chart import ticks, write_tick

WIDTH, ROW, TOP, BOTTOM = 1200, 44, 20, 60  # pixels
MOST = 24
"""Bars of a picture."""
INK, PALE, BAR, WHISKER = "#1f2430", "#d9dde5", "#4c78c9", "#14233f"


def draw_scores(
    names: Sequence[str], scores: Mapping[str, float], intervals: Mapping[str, tuple[float, float]]
) -> bytes:
    """Return a PNG with a bar for each of the first ``MOST`` names. A line across its end is the score's interval.

    The axis goes from 0 to 1, further where a score or an interval does.
    """
    from PIL import Image, ImageDraw, ImageFont

    names = list(names[:MOST])
    ends = [x for name in names for x in (scores[name], *intervals.get(name, ()))]
    low, high = min(0.0, *ends), max(1.0, *ends)
    font, small = ImageFont.load_default(22), ImageFont.load_default(18)
    left = 30 + max(int(font.getlength(name)) for name in names)
    left, right = min(left, WIDTH // 2), WIDTH - 110
    height = TOP + ROW * len(names) + BOTTOM

    def place(x: float) -> float:
        return left + (right - left) * (x - low) / (high - low)

    image = Image.new("RGB", (WIDTH, height), "white")
    draw = ImageDraw.Draw(image)
    foot = TOP + ROW * len(names)
    for tick in ticks(low, high):
        draw.line([(place(tick), TOP), (place(tick), foot)], fill=PALE, width=2)
        draw.text((place(tick), foot + 12), write_tick(round(tick, 9)), fill=INK, font=small, anchor="ma")
    for i, name in enumerate(names):
        middle = TOP + ROW * i + ROW // 2
        text = name
        while font.getlength(text) > left - 30:
            text = "…" + text[2:]  # the end of a name says what is measured
        draw.text((left - 12, middle), text, fill=INK, font=font, anchor="rm")
        value = scores[name]
        first, last = sorted((place(0.0), place(value)))
        draw.rectangle([first, middle - 13, last, middle + 13], fill=BAR)
        if name in intervals:
            near, far = (place(x) for x in intervals[name])
            draw.line([(near, middle), (far, middle)], fill=WHISKER, width=3)
            for x in (near, far):
                draw.line([(x, middle - 7), (x, middle + 7)], fill=WHISKER, width=3)
        draw.text((WIDTH - 20, middle), f"{value:.3f}", fill=INK, font=font, anchor="rm")
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()
