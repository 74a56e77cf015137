"""The bullets of section 4: odd but honest files have a defined behaviour, and counters are right for all ranks."""

from __future__ import annotations

import io
import math
from collections import Counter

import corpus
import numpy as np
import pytest
import torch
from PIL import Image as Picture

from align.data import Loader, Shards, TooManyBad
from align.preprocess import Audio, Bytes, Image, Points, Tokens
from align.preprocess.base import Preprocess


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ALIGN_CACHE", str(tmp_path / "cache"))


def encoded(picture: Picture.Image, kind: str = "PNG", **options) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def rotated(rgb: np.ndarray) -> bytes:
    """Stored lying on its side, with the EXIF tag that turns it upright."""
    exif = Picture.Exif()
    exif[0x0112] = 6
    return encoded(Picture.fromarray(np.rot90(rgb)), exif=exif.tobytes())


def animated(rgb: np.ndarray) -> bytes:
    frames = [Picture.fromarray(rgb), Picture.fromarray(255 - rgb)]
    return encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)


RGB = corpus.pixels("odd", 32)
GREY = RGB[..., 0]
PICTURES = {
    "plain": (encoded(Picture.fromarray(RGB)), RGB, 0),
    "grey": (encoded(Picture.fromarray(GREY)), GREY[..., None].repeat(3, 2), 0),
    "black and white": (
        encoded(Picture.fromarray(GREY).convert("1")),
        np.asarray(Picture.fromarray(GREY).convert("1"))[..., None].repeat(3, 2) * np.uint8(255),
        0,
    ),
    "palette": (encoded(Picture.fromarray(RGB).quantize(256)), RGB, 40),
    "16-bit": (encoded(Picture.fromarray(GREY.astype(np.uint16) << 8)), GREY[..., None].repeat(3, 2), 0),
    "CMYK": (encoded(Picture.fromarray(RGB).convert("CMYK"), "JPEG", quality=100, subsampling=0), RGB, 3),
    "EXIF-rotated": (rotated(RGB), RGB, 0),
    "animated": (animated(RGB), RGB, 0),
    "transparent": (encoded(Picture.fromarray(RGB).convert("RGBA")), RGB, 0),
    "all transparent": (encoded(Picture.new("RGBA", (32, 32), (9, 9, 9, 0))), np.full((32, 32, 3), 255, np.uint8), 0),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_odd_pictures(fault, kind):
    data, expected, apart = PICTURES[kind]
    row = fault("§4", f"picture, {kind}", shape=[3, 32, 32], farthest_value=fault.most(apart))
    reader = Image(size=32)
    found = reader.eval(reader.decode(data))
    far = (found.int() - torch.from_numpy(expected).permute(2, 0, 1).int()).abs().max().item()
    row.measured(shape=list(found.shape), farthest_value=far)


def tone(seconds: float, rate: int) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)


def peak(wave: torch.Tensor, rate: int) -> float:
    """Hz at which a wave has most power."""
    return float(np.abs(np.fft.rfft(wave.double().numpy())).argmax() * rate / len(wave))


SOUNDS = {
    "plain": corpus.wav(tone(0.5, 16_000)),
    "stereo": corpus.wav(np.repeat(tone(0.5, 16_000), 2), channels=2),
    "44.1 kHz": corpus.wav(tone(0.5, 44_100), rate=44_100),
    "8 kHz": corpus.wav(tone(0.5, 8_000), rate=8_000),
    "longer than the window": corpus.wav(tone(3, 16_000)),
    "shorter than the window, repeated": corpus.wav(tone(0.25, 16_000)),
}


@pytest.mark.parametrize("kind", SOUNDS)
def test_odd_recordings(fault, kind):
    """A tone of 440 Hz keeps its pitch, fills the window, and is the same at each evaluation."""
    row = fault("§4", f"recording, {kind}", samples=8000, hz_off=fault.most(4), changing=0)
    reader = Audio(sample_rate=16_000, seconds=0.5, n_mels=16, pad="repeat")
    found = reader.eval(reader.decode(SOUNDS[kind]))
    again = reader.eval(reader.decode(SOUNDS[kind]))
    changing = int(not torch.equal(found, again))
    row.measured(samples=len(found), hz_off=abs(peak(found, 16_000) - 440), changing=changing)


def test_a_recording_heard_as_a_whole(fault):
    """Three tones one after the other, in three windows: evaluation hears each."""
    row = fault(
        "§4", "recording, longer than the window, in 3 windows", samples=24_000, hz_off=fault.most(4), changing=0
    )
    reader = Audio(sample_rate=16_000, seconds=0.5, n_mels=16, windows=3)
    three = np.concatenate([tone(1, 16_000), tone(1, 32_000)[:16_000], tone(1, 64_000)[:16_000]])
    found, again = (reader.row(corpus.wav(three)) for _ in range(2))
    off = [abs(peak(found[8000 * i :][:8000], 16_000) - hz) for i, hz in enumerate((440, 220, 110))]
    row.measured(samples=len(found), hz_off=max(off), changing=int(not torch.equal(found, again)))


@pytest.mark.parametrize("length", [1, 10, 399])
def test_clips_shorter_than_one_frame(fault, length):
    row = fault("§4", f"recording of {length} samples, a frame has 400", frames=51, non_finite=0, silent_part=0)
    reader = Audio(sample_rate=16_000, seconds=0.5, n_mels=16, window="head")
    wave = reader.eval(reader.decode(corpus.wav(tone(0.5, 16_000)[1 : length + 1])))
    mel = reader.device(wave[None])
    silence = int(wave[length:].abs().max())
    row.measured(frames=mel.shape[-1], non_finite=int((~mel.isfinite()).sum()), silent_part=silence)


def test_odd_clouds(fault):
    row = fault(
        "§4",
        "clouds: no colour, 12 points, identical, z-up and y-up",
        grey=1,
        each_point_again=[2, 3],
        identical_at_centre=1,
        up_axis_kept=2,
    )
    plain = corpus.cloud("behaviour")
    bare = Points(points=32).decode(corpus.npy(plain[:, :3]))
    few = Points(points=32).eval(Points(points=32).decode(corpus.npy(plain[:12])))
    times = Counter(tuple(point) for point in few.tolist())
    same = Points(points=32).decode(corpus.npy(plain[:1].repeat(50, 0)))
    kept = 0
    for up, axis in (("z", 2), ("y", 1)):
        reader = Points(points=200, up=up, rotate="up", jitter=0.0, scale_jitter=0.0)
        x = reader.decode(corpus.npy(plain))
        turned = reader.train(x, torch.Generator().manual_seed(3))
        heights = [y[:, axis].sort().values for y in (x, turned)]
        moved = not torch.allclose(x[:, 0].sort().values, turned[:, 0].sort().values, atol=1e-3)
        kept += torch.allclose(*heights, atol=1e-5) and moved
    row.measured(
        grey=int((bare[:, 3:] == bare[0, 3]).all()),
        each_point_again=sorted(set(times.values())),
        identical_at_centre=int((same[:, :3] == 0).all()),
        up_axis_kept=kept,
    )


@pytest.mark.parametrize("make", [Bytes, pytest.param(Tokens, marks=pytest.mark.slow)])
def test_captions_beyond_the_context(fault, make):
    row = fault("§4", f"captions beyond the context, {make.__name__}", context=16, last_is_end=1, same_beginning=1)
    reader = make(context=16)
    long, short = (reader.eval(reader.decode(b"a dog on a hill " * n)) for n in (500, 2))
    end = {Bytes: 2, Tokens: 49407}[make]
    same = int(torch.equal(long[:8], short[:8]))
    row.measured(context=len(long), last_is_end=int(long[-1] == end), same_beginning=same)


def test_counters_over_ranks_and_workers(fault, tmp_path):
    """What each rank and worker met, added up, is what is broken: per reason, and per shard."""
    row = fault("§4", "counters over 1-3 ranks x 0-2 workers", wrong_by_reason=0, wrong_by_shard=0)
    broken: Counter[tuple[str, str]] = Counter()
    for number in range(3):
        samples = {}
        for i in range(8):
            members = corpus.small(f"{number}/{i}")
            if i % (number + 2) == 0:
                members["image.jpg"] = members["image.jpg"][:200]
                broken[f"{number}.tar", "image/truncated"] += 1
            if i == 5:
                members["text.txt"] = b"\xff\xfe\xff"
                broken[f"{number}.tar", "text/not-utf8"] += 1
            samples[f"{number}/{i}"] = members
        corpus.shard(tmp_path / f"{number}.tar", samples)
    towers: dict[str, Preprocess] = {"image": Image(size=8), "text": Bytes(context=8)}
    expected = Counter()
    for (_, reason), n in broken.items():
        expected[reason] += n
    by_reason = by_shard = grid = 0
    for world in (1, 2, 3):
        for workers in (0, 2) if world < 3 else (0,):
            total: Counter[str] = Counter()
            places: Counter[tuple[str, str]] = Counter()
            for rank in range(world):
                shards = Shards(str(tmp_path / "*.tar"), max_bad=1)
                heard = shards.count
                shards.count = lambda reason, n=1, where="", heard=heard, places=places: (
                    places.update({(where.partition(": ")[0].rpartition("/")[2], reason): n}),
                    heard(reason, n, where),
                )
                loader = Loader(shards, towers, batch=6, train=False, rank=rank, world=world, workers=workers)
                for _ in loader:
                    pass
                loader.close()
                total.update(loader.counts)
            grid += 1
            by_reason += total != expected
            by_shard += places != broken
    row.measured(wrong_by_reason=by_reason, wrong_by_shard=by_shard, grid_points=grid, bad=sum(expected.values()))


def test_the_budget_is_the_stated_one(fault, tmp_path):
    """Training stops at the first position with bad > max(10, max_bad x seen), no sooner and no later; a single pass
    over a known number of samples with the share of all of them."""
    row = fault("§4", "bad > max(10, max_bad x seen) stops, one less does not", wrong_stops=0)
    wrong, cases = 0, 0
    for share, max_bad in ((0.5, 0.001), (0.25, 0.1), (0.05, 0.1), (0.1, 0.05)):
        n = 400
        every = round(1 / share)
        samples = {f"{i:05d}": {"text.txt": b"\xff" if i % every == 0 else b"x"} for i in range(n)}
        path = tmp_path / f"{share}-{max_bad}.tar"
        corpus.shard(path, samples)
        bad = [math.ceil(s / every) for s in range(n + 1)]  # positions 0, every, …
        for train in (True, False):
            shards = Shards(path, shuffle=False, max_bad=max_bad)
            seen = 0
            try:
                for _ in Loader(shards, {"text": Bytes(context=8)}, batch=1, train=train, steps=n):
                    seen += 1
            except TooManyBad:
                seen += 1
            stops = [s for s in range(1, n + 1) if bad[s] > max(10, max_bad * (s if train else n))]
            wrong += seen != (stops[0] if stops else n)
            cases += 1
    row.measured(wrong_stops=wrong, budgets=cases)
