"""Tokens of another model: rows of different lengths, and the padding of a batch."""

import io
import pickle

import numpy as np
import pytest
import torch

from align.checkpoint import describe
from align.preprocess import FeatureTokens
from align.values import BadSample


def npy(x) -> bytes:
    out = io.BytesIO()
    np.save(out, x)
    return out.getvalue()


def rows(*lengths: int) -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [draw.normal(size=(1 + n, 4)).astype(np.float32) for n in lengths]


def test_rows_are_padded_and_masked():
    reader, given = FeatureTokens(4, 5), rows(2, 3, 1)
    made = [reader.row(x if i else npy(x), torch.Generator() if i == 1 else None) for i, x in enumerate(given)]
    values = reader.collate(made)
    assert {name: tuple(x.shape) for name, x in values.items()} == {
        "pooled": (3, 4),
        "tokens": (3, 5, 4),
        "mask": (3, 5),
    }
    for i, x in enumerate(given):
        assert values["mask"][i].tolist() == [t < len(x) - 1 for t in range(5)]
        assert torch.equal(values["pooled"][i], torch.from_numpy(x[0]))
        assert torch.equal(values["tokens"][i][values["mask"][i]], torch.from_numpy(x[1:]))
        assert not values["tokens"][i][~values["mask"][i]].any()
    cut = reader.device(values)
    assert cut["tokens"].shape == (3, 3, 4)
    assert torch.equal(cut["mask"], values["mask"][:, :3])
    parts = [reader.collate(made[:1]), reader.collate([]), reader.collate(made[1:])]
    assert all(torch.equal(torch.cat([part[name] for part in parts]), values[name]) for name in values)
    assert reader.device(reader.collate([]))["tokens"].shape == (0, 5, 4)
    assert repr(pickle.loads(pickle.dumps(reader))) == repr(reader)
    assert describe(reader)["init_args"] == {"width": 4, "length": 5}


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (np.zeros((3, 5), np.float32), "array/shape"),
        (np.zeros((1, 4), np.float32), "array/shape"),
        (np.zeros((7, 4), np.float32), "array/shape"),
        (np.zeros(4, np.float32), "array/shape"),
        (np.zeros((3, 4), np.int64), "array/dtype"),
        (np.full((3, 4), np.nan, np.float32), "array/non-finite"),
        (b"no array", "array/not-npy"),
    ],
)
def test_a_bad_row_has_its_reason(source, reason):
    with pytest.raises(BadSample) as error:
        FeatureTokens(4, 5).decode(source)
    assert error.value.reason == reason


def test_sizes_are_checked():
    with pytest.raises(ValueError, match="width"):
        FeatureTokens(0)
    with pytest.raises(ValueError, match="length"):
        FeatureTokens(4, 0)
