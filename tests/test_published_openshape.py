"""OpenShape's point towers: from arrays to embeddings beside the original's vectors, and files that are refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from point_towers import (
    DEMO,
    DEMO_BARE,
    OPENSHAPE,
    PROJECTED,
    SCALE,
    fill_tower,
    make_clouds,
    openshape_shapes,
    save_openshape,
)
from proof import agree
from safetensors.torch import load_file

from align.published import load_published

golden = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def theirs():
    return load_file(golden / "openshape.safetensors")


@pytest.mark.parametrize("kind", OPENSHAPE)
def test_the_originals_vectors(kind, theirs, tmp_path):
    file = save_openshape(fill_tower(openshape_shapes(**OPENSHAPE[kind])), kind, tmp_path / "model.pt")
    model = load_published("openshape", str(file))
    print(agree(model.embed(points=make_clouds())["points"], F.normalize(theirs[kind], dim=-1)))
