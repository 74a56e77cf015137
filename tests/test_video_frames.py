"""VideoFrames: each pooling recomputed by plain loops, masks, pictures, a shared encoder and its origin."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from videos import write_video

from align import Batch, JointModel, Rows, Tower, load, save
from align.encoders import ImageCNN, OpenClipImage, TimmImage, VideoFrames
from align.heads import Identity
from align.preprocess import Image, Video
from align.values import Features, Origin

W, FRAMES = 24, 5
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0], [0, 1, 0, 1, 0]], dtype=torch.bool)


class Flat(nn.Module):
    """An image encoder: pixels as they stand."""

    width = W

    def forward(self, values):
        return Features(values.flatten(1))


def frames(n=4, seed=0):
    return torch.randn(n, FRAMES, 3, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def real(i):
    return [t for t in range(FRAMES) if MASK[i, t]]


def mean(vectors):
    return sum(vectors) / len(vectors)


def make(pool, **arguments):
    torch.manual_seed(1)
    made = VideoFrames(Flat(), pool, **{"frames": FRAMES, **arguments}).double()
    with torch.no_grad():  # zeros at the start would hide a mistake
        for name, parameter in made.named_parameters():
            if name.endswith(("weight.weight", "out.weight", "out.bias")):
                parameter.normal_()
    return made


def plain_mean(made, x, i):
    return mean([x[i, t].flatten() for t in real(i)])


def plain_unit(made, x, i):
    return mean([x[i, t].flatten() / x[i, t].flatten().norm() for t in real(i)])


def plain_attention(made, x, i):
    pool, scores = made.pooling, []
    for t in real(i):
        h = pool.hidden(pool.norm(x[i, t].flatten()))
        scores.append(math.exp(float(pool.weight(torch.tanh(h)))))
    return sum(s / sum(scores) * x[i, t].flatten() for s, t in zip(scores, real(i), strict=True))


def plain_times(made, x, i):
    """Only the real frames, with the positions of their places: what is masked cannot be seen."""
    pool, places = made.pooling, real(i)
    h = torch.stack([x[i, t].flatten() for t in places])
    seen = (h + pool.position[places])[None]
    for block in pool.blocks:
        seen = block(seen)
    return (h + pool.out(pool.norm(seen[0]))).mean(0)


PLAIN = {"mean": plain_mean, "unit-mean": plain_unit, "attention": plain_attention, "times": plain_times}
every = pytest.mark.parametrize("pool", PLAIN)


@every
@torch.no_grad()
def test_pooled_features_are_those_of_a_plain_loop(pool):
    made, x = make(pool), frames()
    found = made({"values": x, "mask": MASK})
    for i in range(4):
        torch.testing.assert_close(found.pooled[i], PLAIN[pool](made, x, i))
    assert torch.equal(found.mask, MASK)
    assert found.tokens.shape == (4, FRAMES, W)


@every
@torch.no_grad()
def test_masked_frames_count_for_nothing_be_they_infinite(pool):
    made, x = make(pool), frames()
    other = torch.where(MASK[..., None, None, None], x, torch.full_like(x, torch.inf))
    torch.testing.assert_close(made({"values": other, "mask": MASK}).pooled, made({"values": x, "mask": MASK}).pooled)


@every
@torch.no_grad()
def test_a_picture_and_frames_without_a_mask_are_videos(pool):
    made, x = make(pool), frames()
    whole = made({"values": x, "mask": torch.ones(4, FRAMES, dtype=torch.bool)})
    torch.testing.assert_close(made(x).pooled, whole.pooled)
    one = made({"values": x, "mask": torch.arange(FRAMES) < torch.ones(4, 1)})
    torch.testing.assert_close(made(x[:, 0]).pooled, one.pooled)
    if pool in ("mean", "attention"):
        torch.testing.assert_close(made(x[:, 0]).pooled, x[:, 0].flatten(1))


@torch.no_grad()
def test_only_times_see_the_order():
    x = frames()
    for pool in PLAIN:
        made = make(pool)
        same = torch.allclose(made(x).pooled, made(x.flip(1)).pooled, atol=1e-9)
        assert same == (pool != "times"), pool


@every
@torch.no_grad()
def test_learned_poolings_start_at_the_mean(pool):
    x = frames()
    torch.manual_seed(0)
    made = VideoFrames(Flat(), pool, frames=FRAMES).double()
    if pool != "unit-mean":
        torch.testing.assert_close(
            made({"values": x, "mask": MASK}).pooled, make("mean")({"values": x, "mask": MASK}).pooled
        )


def test_a_row_without_a_real_frame_is_finite_with_its_gradients():
    for pool in PLAIN:
        made, x = make(pool), frames().requires_grad_()
        none = torch.zeros(4, FRAMES, dtype=torch.bool)
        made({"values": x, "mask": none}).pooled.sum().backward()
        assert x.grad is not None
        assert x.grad.isfinite().all()


def test_errors():
    for arguments, says in (
        ({"image": nn.Linear(2, 2)}, "Linear has none"),
        ({"image": Flat(), "pool": "max"}, "pool='max' is not known"),
        ({"image": Flat(), "frames": 0}, "at least 1"),
    ):
        with pytest.raises(ValueError, match=says):
            VideoFrames(**arguments)
    with pytest.raises(ValueError, match="has 5 frames, pool 'times' has learned 4"):
        make("times", frames=4)(frames())
    with pytest.raises(ValueError, match="takes \\(n, F, 3, H, W\\)"):
        make("mean")(torch.zeros(2, 3))
    cnn = ImageCNN(width=24, widths=(8, 16), stem=2)
    with pytest.raises(ValueError, match="Video gives frames 8, VideoFrames takes at most 4"):
        Tower(Video(8, size=32), VideoFrames(cnn, "times", frames=4))
    with pytest.raises(ValueError, match=r"Video gives frames, ImageCNN reads none; VideoFrames\(image=ImageCNN\)"):
        Tower(Video(8, size=32), cnn)
    with pytest.raises(ValueError, match="Video gives size"):
        Tower(Video(8, size=16), VideoFrames(TimmImage("test_vit", size=32)))
    assert VideoFrames(cnn).wants() is None


def test_a_published_image_encoder_brings_its_pictures(tiny_clip):
    encoder = VideoFrames(OpenClipImage("align-tiny"), "unit-mean", frames=3)
    encoder.origin = Origin("somewhere", "0" * 64, "mit")
    tower = Tower(None, encoder, Identity)
    wanted = OpenClipImage("align-tiny").wants()["init_args"]
    assert isinstance(tower.preprocess, Video)
    assert tower.preprocess.frames == 3
    pixels = torch.randint(0, 256, (3, 40, 50), dtype=torch.uint8)
    assert torch.equal(tower.preprocess.row(pixels)[0], Image(**wanted).row(pixels))
    timm = TimmImage("test_vit", size=32)
    assert Tower(None, VideoFrames(timm)).preprocess.picture.size == 32
    with pytest.raises(ValueError, match=r"reads align\.preprocess\.Image of 1 channels"):
        VideoFrames(TimmImage("test_vit", size=32, channels=1)).wants()


def shared(pool="mean"):
    torch.manual_seed(0)
    encoder = VideoFrames(TimmImage("test_vit", size=32), pool, frames=4, heads=2)
    pictures = encoder.wants()["init_args"]
    image = Image(**{k: v for k, v in pictures.items() if k != "frames"})
    return JointModel({"image": Tower(image, encoder), "video": Tower(Video(**pictures))}, 8, share={"video": "image"})


@pytest.mark.parametrize("pool", ["mean", "times"])
def test_pictures_and_videos_share_one_encoder_through_a_folder(tmp_path, pool):
    model = shared(pool).eval()
    clip, pixels = write_video(frames=8, fps=4), torch.randint(0, 256, (48, 64, 3), dtype=torch.uint8).numpy()
    model.towers["video"].head.load_state_dict(model.towers["image"].head.state_dict())
    found = model.embed(image=[pixels], video=[clip, pixels])
    torch.testing.assert_close(found["image"][0], found["video"][1])
    assert not torch.allclose(found["image"][0], found["video"][0])
    assert not any(name.startswith("towers.video.encoder") for name in model.state_dict())  # stored one time
    save(model, tmp_path / "m")
    again = load(tmp_path / "m")
    for name, x in again.embed(image=[pixels], video=[clip, pixels]).items():
        torch.testing.assert_close(x, found[name])
    video, one = model.preprocess["video"], torch.zeros(1, dtype=torch.int64)
    model.train()
    made = model(Batch({"video": Rows(video.collate([video.row(clip)]), one)}, ids=["a"], position=one))
    (made["video"].values.sum() + made["image"].values.sum()).backward()  # no rows of images
    assert all(p.grad is not None for p in model.parameters())


def test_an_image_tower_that_shares_is_compared_with_the_frames(recwarn):
    encoder = VideoFrames(TimmImage("test_vit", size=32))
    encoder.origin = Origin("somewhere", "0" * 64, "mit")
    pictures = {k: v for k, v in encoder.wants()["init_args"].items() if k != "frames"}
    Tower(Image(**pictures), encoder)
    assert not recwarn.list
    with pytest.warns(UserWarning, match="crop 0.5 instead of"):
        Tower(Image(**{**pictures, "crop": 0.5}), encoder)
    with pytest.warns(UserWarning, match="crop 0.5 instead of"):
        Tower(Video(4, **{**pictures, "crop": 0.5}), encoder)
