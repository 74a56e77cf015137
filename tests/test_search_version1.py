"""Indexes of version 1 are read like those of version 2."""

import json
import shutil

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from align.files import sha256
from align.search.index import Index
from align.search.local import LocalIndex
from align.search.where import parse


@pytest.fixture
def old(tmp_path):
    """(folder, values): an index of 12 samples as version 1 wrote it."""
    folder = tmp_path / "old"
    folder.mkdir()
    values = torch.randn(14, 6, generator=torch.Generator().manual_seed(1))
    sample = torch.tensor([0, 0, 1, 2, 3, 4, 5, 5, 6, 7, 8, 9, 10, 11])
    save_file({"values": values, "sample": sample}, folder / "image.safetensors")
    save_file({"values": values[:3], "sample": sample[3:6]}, folder / "audio.safetensors")
    lines = [
        {
            "key": f"{i % 10:04d}",
            "shard": f"/s/{i // 10}.tar",
            "caption": [f"dog {i}", "猫"],
            "label": {"kind": "ab"[i % 2]},
        }
        for i in range(12)
    ]
    (folder / "items.jsonl").write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    files = ("image.safetensors", "audio.safetensors", "items.jsonl")
    about = {
        "schema": 1,
        "align": "0.1",
        "model": "f" * 64,
        "dim": 6,
        "modalities": {"audio": 3, "image": 14},
        "samples": 12,
        "sha256": {name: sha256(folder / name) for name in files},
    }
    (folder / "index.json").write_text(json.dumps(about))
    return folder, values, sample


def test_it_answers_like_a_new_one(old):
    folder, values, sample = old
    with LocalIndex.open(folder) as index:
        assert isinstance(index, Index)
        assert index.modalities == {"audio": 3, "image": 14}
        assert index.about["model"] == {"source": "", "sha256": "f" * 64}
        assert index.count() == 12
        assert index.numbers("audio").tolist() == [3, 4, 5]
        item = index.items([12])[0]
        assert (item.key, item.source) == ("0001", {"shard": "/s/1.tar", "key": "0001"})
        assert (item.captions, item.label) == (["dog 11", "猫"], {"kind": "b"})
        query = torch.randn(2, 6)
        scores, found = index.search(query, "image", 4, parse({"label.kind": "a"}))
        for q in range(2):
            best = {}
            for number, row in zip((sample + 1).tolist(), F.normalize(values, dim=1), strict=True):
                if number % 2:
                    best[number] = max(best.get(number, -9), float(query[q] @ row))
            expected = sorted(best, key=lambda n: -best[n])[:4]
            assert found[q].tolist() == expected
            assert scores[q].tolist() == pytest.approx([best[n] for n in expected], abs=1e-5)
        assert torch.allclose(index.rows("image", [1, 2]).values, values[:3], atol=1e-6)
        assert index.find_text("dog 11", 1)[1].tolist() == [12]
        assert [f.key for f in index.facets()] == ["label.kind"]
        assert index.check() == []


def test_it_is_only_read(old):
    with pytest.raises(ValueError, match="has schema 1, which is only read; make it anew with: align index build"):
        LocalIndex.open(old[0], write=True)
    with LocalIndex.open(old[0]) as index, pytest.raises(PermissionError, match="is open for reading"):
        index.delete(["0001"])
    with pytest.raises(FileExistsError, match="is an index already"):
        LocalIndex.create(old[0])
    assert sorted(path.name for path in old[0].iterdir()) == [
        "audio.safetensors",
        "image.safetensors",
        "index.json",
        "items.jsonl",
    ]


@pytest.mark.parametrize("name", ["image.safetensors", "items.jsonl"])
def test_a_flipped_bit_is_found(old, tmp_path, name):
    shutil.copytree(old[0], tmp_path / "index")
    path = tmp_path / "index" / name
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} is damaged: its SHA-256 is not the one in index.json"):  # noqa: SIM117
        with LocalIndex.open(tmp_path / "index") as index:
            assert index.check() != []
            index.search(torch.ones(1, 6), "image", 1)


def test_a_lost_file_is_named(old):
    (old[0] / "image.safetensors").unlink()
    with LocalIndex.open(old[0]) as index, pytest.raises(ValueError, match=r"lacks image.safetensors; make the index"):
        index.search(torch.ones(1, 6), "image", 1)
