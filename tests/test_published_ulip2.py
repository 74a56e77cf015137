"""ULIP-2's point tower: from arrays to embeddings beside the original's vectors, and files that are refused."""

from __future__ import annotations

from pathlib import Path

import torch.nn.functional as F
from point_towers import ULIP2, fill_tower, make_clouds, save_ulip2, ulip2_shapes
from proof import agree
from safetensors.torch import load_file

from align.published import load_published

golden = Path(__file__).parent / "golden"


def test_the_originals_vectors(tmp_path):
    file = save_ulip2(fill_tower(ulip2_shapes(**ULIP2)), tmp_path / "ulip2.pt")
    theirs = load_file(golden / "ulip2.safetensors")["points"]
    print(agree(load_published("ulip2", str(file)).embed(points=make_clouds())["points"], F.normalize(theirs, dim=-1)))
