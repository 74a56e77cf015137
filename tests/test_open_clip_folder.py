"""Folders of open_clip that we write, loaded by open_clip: its features are our embeddings."""

from __future__ import annotations

import math

import numpy as np
import open_clip
import pytest
import torch
from fill import fill
from open_clip_models import make, save_folder, write_kinds
from PIL import Image as Pil
from test_formats import undescribed

from align import JointModel, Tower
from align.convert.open_clip import write_open_clip
from align.encoders import OpenClipImage, OpenClipText
from align.heads import MLP, Linear
from align.preprocess import Image
from align.published.open_clip import load
from align.values import TermInfo

TEXTS = ["a photo of a cat", "Größe, 3.14 & naïve", "long " * 90, "x"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A function: the name of a kind -> a folder that open_clip saved of it."""
    top = tmp_path_factory.mktemp("open_clip")
    write_kinds(top)
    found = {}

    def get(name):
        if name not in found:
            whole = make(f"tiny-{name}")
            found[name] = save_folder(whole, f"tiny-{name}", top / "saved" / name)
        return str(found[name])

    return get


def pictures():
    draws = np.random.default_rng(0)
    return [Pil.fromarray(draws.integers(0, 256, (h, w, 3), dtype=np.uint8)) for h, w in ((50, 70), (97, 53))]


def gap(model, folder):
    """The largest difference between open_clip's unit features and our embeddings."""
    made, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    made.eval()
    words = open_clip.get_tokenizer(f"local-dir:{folder}")
    with torch.no_grad():
        image = made.encode_image(torch.stack([preprocess(x) for x in pictures()]), normalize=True)
        text = made.encode_text(words(TEXTS), normalize=True)
    ours = model.embed(image=pictures(), text=TEXTS)
    return made, max(float((image - ours["image"]).abs().max()), float((text - ours["text"]).abs().max()))


@pytest.mark.parametrize("name", ["vit", "quick", "siglip", "clipa", pytest.param("coca", marks=pytest.mark.slow)])
def test_open_clip_encodes_as_the_model(folders, tmp_path, name):
    model = load(folders(name)).eval()
    lines = write_open_clip(model, tmp_path / "out")
    assert lines == [f"wrote {tmp_path / 'out'}: open_clip.create_model_and_transforms('local-dir:{tmp_path / 'out'}')"]
    assert undescribed(tmp_path / "out", "A model for other programs") == []
    made, apart = gap(model, tmp_path / "out")
    assert apart <= 1e-5
    term = model.terms[0]
    assert float(made.logit_scale.detach().exp()) == pytest.approx(term.scale)
    if term.bias:
        assert float(made.logit_bias.detach()) == pytest.approx(term.bias)
    assert gap(load(str(tmp_path / "out")).eval(), tmp_path / "out")[1] <= 1e-5


def trained(folder, head=Linear, **options):
    """A model of other heads on open_clip's towers, in 24 dimensions."""
    towers = {
        "image": Tower(encoder=OpenClipImage(folder), head=head, **options),
        "text": Tower(encoder=OpenClipText(folder), head=head),
        "other": Tower(Image(8, channels=1, mean=(0.5,), std=(0.5,)), OneLayer()),
    }
    return fill(JointModel(towers, 24), 3).eval()


class OneLayer(torch.nn.Module):
    width = 4

    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(64, 4)

    def forward(self, values):
        from align.values import Features

        return Features(self.net(values.flatten(1)))


def test_linear_heads_go_into_the_projections(folders, tmp_path):
    model = trained(folders("vit"))
    model.terms = [TermInfo(("text", "image"), "pairwise", 20.0)]
    write_open_clip(model, tmp_path / "out", towers=["image", "text"])
    made, apart = gap(model, tmp_path / "out")
    assert apart <= 1e-5
    assert float(made.logit_scale.detach()) == pytest.approx(math.log(20))


def test_the_start_of_the_scale_is_said(folders, tmp_path):
    lines = write_open_clip(trained(folders("vit")), tmp_path / "out", towers=["text", "image"])
    assert lines[1] == "no trained term is between image and text: logit_scale is open_clip's start, 14.29"


def test_other_pixels_are_said(folders, tmp_path):
    with pytest.warns(UserWarning, match="trained with other preprocessing: backend"):
        model = trained(folders("vit"), preprocess=Image(32))
    lines = write_open_clip(model, tmp_path / "out", towers=["text", "image"])
    assert "image: open_clip scales pictures through PIL, this model through torch" in lines


def test_what_open_clip_cannot_hold_is_refused_and_nothing_is_written(folders, tmp_path):
    model = trained(folders("vit"))
    with pytest.raises(ValueError, match=r"OpenClipImage, OpenClipText., not image: OpenClipImage, .*other"):
        write_open_clip(model, tmp_path / "out")
    with pytest.raises(ValueError, match="not image: OpenClipImage;"):
        write_open_clip(model, tmp_path / "out", towers=["image"])
    with pytest.raises(ValueError, match="the head of image is MLP, which open_clip's tower has no place for"):
        write_open_clip(trained(folders("vit"), MLP), tmp_path / "out", towers=["image", "text"])
    assert not list(tmp_path.iterdir())
