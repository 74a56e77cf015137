"""A video made small for a page: a few of its frames as a moving WebP."""

from __future__ import annotations

import io

from align.media.videos.reading import VideoFile
from align.media.videos.survey import even_times

LARGEST = 48_000  # bytes
SIDE = 128  # pixels
TRIES = ((12, 60), (12, 35), (8, 25), (4, 20), (1, 20), (1, 1))  # (frames, quality)
LOOP = 3000  # milliseconds of the whole


def moving_webp(video: VideoFile) -> bytes:
    """Return frames spread over a video as a WebP of at most ``LARGEST`` bytes, which takes three seconds."""
    from PIL import Image

    count = min(TRIES[0][0], max(1, round(video.seconds / video.frame_seconds)))
    pictures = [Image.fromarray(frame) for frame in video.at(even_times(video.seconds, count), SIDE)]
    for picture in pictures:
        picture.thumbnail((4 * SIDE, 4 * SIDE))  # a long strip
    data = b""
    for most, quality in TRIES:
        step = -(-len(pictures) // most)
        chosen = pictures[::step]
        out = io.BytesIO()
        more = {"save_all": True, "append_images": chosen[1:], "duration": LOOP // len(chosen), "loop": 0}
        chosen[0].save(out, "WEBP", quality=quality, **(more if len(chosen) > 1 else {}))
        data = out.getvalue()
        if len(data) <= LARGEST:
            break
    return data
