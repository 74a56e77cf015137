"""Rows 10, 11, 12 and 15: shards that are cut, scratched or put together wrongly lose nothing without a count."""

from __future__ import annotations

import logging
import os
import random
from collections import Counter
from pathlib import Path

import corpus
import damage
import pytest
import torch
from corpus import Members, Placed

from align.data import Loader, Shards, collate
from align.losses import infonce
from align.preprocess import Bytes, Image, Points
from align.seeds import generator

N = 6


@pytest.fixture(autouse=True)
def _quiet(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("ALIGN_CACHE", str(tmp_path / "cache"))
    caplog.set_level(logging.ERROR)


def read(path: Path, **options) -> tuple[dict[str, Members], dict[str, int]]:
    """What a shard delivers, and what it reports."""
    shards = Shards(path, shuffle=False, max_bad=1, **options)
    found = {s["__key__"]: {k: v for k, v in s.items() if k[:2] != "__"} for s in shards.samples(0)}
    shards.close()
    return found, shards.report()


def remade(path: Path, data: bytes | bytearray, like: os.stat_result | None = None) -> Path:
    """Write bytes; ``like``: with that modification time, as bits that rot have it; else nothing knows of a change."""
    path.write_bytes(data)
    if like is not None:
        os.utime(path, ns=(like.st_atime_ns, like.st_mtime_ns))
    else:
        path.with_name(path.name + ".index.json").unlink(missing_ok=True)
    return path


def complete(placed: list[Placed], cut: int) -> set[str]:
    """The samples of which every byte stands before a cut."""
    return {p.key for p in placed} - {p.key for p in placed if p.end > cut}


# row 10


def cuts(placed: list[Placed], size: int, some: int) -> list[int]:
    draw = random.Random(corpus.SEED)
    inside = [draw.randrange(p.begin, max(p.end, p.begin + 1)) for p in placed for _ in range(some)]
    headers = [p.header + draw.randrange(1, 512) for p in placed]
    return sorted({*range(0, size, 512), *inside, *headers})


def cut_everywhere(tmp_path, samples, places, *, indexed: bool) -> dict[str, int]:
    """Cut at each place. lost: complete samples that were not delivered; unreported: cuts that nothing tells of.

    alone and counted: the first sample, where the cut follows it and nothing says that this was all of it.
    """
    whole = tmp_path / "whole.tar"
    placed = corpus.shard(whole, samples)
    data = whole.read_bytes()
    read(whole)
    index = (tmp_path / "whole.tar.index.json").read_text()
    out = Counter(lost=0, partial=0, unreported=0, alone_and_counted=0)
    end = placed[-1].over + 1024
    for cut in places(placed, len(data)):
        path = remade(tmp_path / "cut.tar", data[:cut])
        if indexed:
            (tmp_path / "cut.tar.index.json").write_text(index)
        try:
            found, report = read(path)
        except ValueError:  # it is refused with a line: nothing of it is a tar
            found, report = {}, {"shard/no-tar": 1}
        lost = complete(placed, cut) - set(found)
        alone = not indexed and found == {} and report.get("sample/cut") == len(lost) == 1
        out["cuts"] += 1
        out["lost"] += 0 if alone else len(lost)
        out["alone_and_counted"] += alone
        out["partial"] += sum(found[key] != samples[key] for key in found)
        out["unreported"] += cut < end and not report
    return dict(out)


def test_a_shard_cut_at_every_block_and_in_data(fault, tmp_path):
    row = fault(
        "10",
        "tar cut at every 512-byte block and in data",
        lost=0,
        partial=0,
        unreported=0,
        alone_and_counted=fault.most(5),
    )
    samples = {f"{i:05d}": corpus.small(i) for i in range(4)}
    row.measured(**cut_everywhere(tmp_path, samples, lambda placed, size: cuts(placed, size, 2), indexed=False))


def test_a_shard_with_holes_and_an_index_cut_at_every_block(fault, tmp_path):
    row = fault("10", "the same with holes, beside it the index from before", lost=0, partial=0, unreported=0)
    samples = {f"{i:05d}": corpus.small(i, extra=i % 2 == 1) for i in range(4)}
    row.measured(**cut_everywhere(tmp_path, samples, lambda placed, size: cuts(placed, size, 2), indexed=True))


@pytest.mark.sweep
def test_a_shard_cut_at_every_seventh_byte(fault, tmp_path):
    row = fault("10", "tar cut at every seventh byte", lost=0, partial=0, unreported=0)
    samples = {f"{i:05d}": corpus.small(i) for i in range(3)}
    row.measured(**cut_everywhere(tmp_path, samples, lambda placed, size: list(range(0, size, 7)), indexed=False))


# row 11


def zeros(header: bytearray) -> bytes:
    return bytes(512)


def ones(header: bytearray) -> bytes:
    return b"\xff" * 100 + header[100:]


def one_bit(header: bytearray) -> bytes:
    header[3] ^= 4
    return bytes(header)


def length(header: bytearray) -> bytes:
    header[124:136] = b"77777777777\0"
    return bytes(header)


HEADERS = [zeros, ones, one_bit, length]


@pytest.mark.parametrize("indexed", [False, True], ids=["foreign", "indexed"])
def test_a_scratched_header(fault, tmp_path, indexed):
    """Each member's header in turn, in four ways."""
    bar = {"silently_lost": 0, "partial": 0, "unreported": 0, "untouched_lost": 0}
    row = fault("11", f"a bad header in the middle, {'index as before' if indexed else 'no index'}", **bar)
    samples = {f"{i:05d}": corpus.small(i) for i in range(N)}
    placed = corpus.shard(tmp_path / "a.tar", samples)
    clean, out = (tmp_path / "a.tar").read_bytes(), Counter(dict.fromkeys(bar, 0))
    read(tmp_path / "a.tar")
    before = (tmp_path / "a.tar").stat()
    for place in placed:
        neighbours = {place.key, *(p.key for p in placed if p.over == place.header or p.header == place.over)}
        for scratch in HEADERS:
            data = bytearray(clean)
            data[place.header : place.begin] = scratch(data[place.header : place.begin])
            found, report = read(remade(tmp_path / "a.tar", data, before if indexed else None))
            said = report.get("sample/cut", 0) + report.get("shard/truncated", 0)
            out["headers"] += 1
            out["silently_lost"] += max(0, N - len(found) - said)
            out["partial"] += sum(found[key] != samples[key] for key in found)
            out["unreported"] += not report.get("shard/header", 0) + report.get("shard/truncated", 0)
            out["untouched_lost"] += len(samples.keys() - neighbours - found.keys())
            out["delivered"] += len(found)
    row.measured(**out)


# row 12


def test_flipped_bytes(fault, tmp_path):
    row = fault("12", "a flipped byte in a payload, with index", undetected=0, others_touched=0, not_named=0)
    samples = {f"{i:05d}": corpus.small(i) for i in range(N)}
    placed = corpus.shard(tmp_path / "a.tar", samples)
    shards = Shards(tmp_path / "a.tar", shuffle=False, max_bad=1)
    draw, out = random.Random(corpus.SEED), Counter(flips=0, undetected=0, others_touched=0, not_named=0)
    keys = list(samples)
    with open(tmp_path / "a.tar", "r+b", buffering=0) as file:
        for _ in range(1000):
            place = draw.choice(placed)
            at, bits = draw.randrange(place.begin, place.end), draw.randrange(1, 256)
            old = os.pread(file.fileno(), 1, at)
            os.pwrite(file.fileno(), bytes([old[0] ^ bits]), at)
            sample, bad = shards.read(keys.index(place.key))
            os.pwrite(file.fileno(), old, at)
            out["flips"] += 1
            out["undetected"] += place.name in sample or not bad
            out["not_named"] += [b.where.endswith(f": {place.key}.{place.name}") for b in bad] != [True]
            out["others_touched"] += any(sample.get(n) != d for n, d in samples[place.key].items() if n != place.name)
    row.measured(**out)


def test_an_index_of_another_state_is_not_trusted(fault, tmp_path):
    row = fault("12", "shard rewritten under its index (size or time differs)", stale_bytes=0)
    (tmp_path / "x").mkdir()
    old, new = ({f"{i:05d}": corpus.small(i + shift) for i in range(N)} for shift in (0, 100))
    stale = rewritten = 0
    for samples in (new, {key: {**m, "text.txt": m["text.txt"][::-1]} for key, m in old.items()}):
        corpus.shard(tmp_path / "a.tar", old)
        read(tmp_path / "a.tar")
        like = (tmp_path / "a.tar").stat()
        corpus.shard(tmp_path / "a.tar", samples)
        os.utime(tmp_path / "a.tar", ns=(like.st_atime_ns, like.st_mtime_ns + 1))
        found, _ = read(tmp_path / "a.tar")
        stale += sum(found.get(key) != samples[key] for key in samples)
        rewritten += len(samples)
    row.measured(stale_bytes=stale, samples=rewritten)


# rows 10 to 12 at random


def damaged(clean: bytes, draw: random.Random) -> bytes:
    """One stretch flipped, zeroed, drawn anew, put in or taken out, or all after it cut off."""
    out, at = bytearray(clean), draw.randrange(len(clean) - 10240)
    over = at + draw.choice([1, 1, 5, 600])
    kind = draw.choice(["flip", "zero", "random", "insert", "delete", "cut"])
    if kind == "flip":
        out[at] ^= draw.randrange(1, 256)
    elif kind in ("zero", "random"):
        out[at:over] = bytes(over - at) if kind == "zero" else draw.randbytes(over - at)
    elif kind == "insert":
        out[at:at] = draw.randbytes(over - at)
    else:
        del out[at : over if kind == "delete" else None]
    return bytes(out)


@pytest.mark.parametrize("many", [100, pytest.param(3000, marks=[pytest.mark.sweep, pytest.mark.timeout(600)])])
@pytest.mark.parametrize("index", ["none", "from before", "still trusted"])
def test_damage_of_any_kind_anywhere(fault, tmp_path, index, many):
    """A payload's flip is told by the index alone; everything else, and all that goes missing, always."""
    bar = {"silently_lost": 0, "partial": 0, "made_up": 0}
    row = fault("11", f"{many} times any damage anywhere, index {index}", **bar, refused=fault.most(many // 50))
    samples = {f"{i:05d}": corpus.small(i) for i in range(N)}
    corpus.shard(tmp_path / "a.tar", samples)
    read(tmp_path / "a.tar")
    clean, like = (tmp_path / "a.tar").read_bytes(), (tmp_path / "a.tar").stat()
    kept = (tmp_path / "a.tar.index.json").read_text()
    out, draw = Counter(dict.fromkeys([*bar, "refused"], 0)), random.Random(f"{corpus.SEED} {index}")
    while out["damages"] < many:
        data = damaged(clean, draw)
        if data == clean or (index == "still trusted" and len(data) != len(clean)):
            continue
        (tmp_path / "a.tar").write_bytes(data)
        if index == "none":
            (tmp_path / "a.tar.index.json").unlink(missing_ok=True)
        else:
            (tmp_path / "a.tar.index.json").write_text(kept)
            os.utime(tmp_path / "a.tar", ns=(1, like.st_mtime_ns + (index == "from before")))
        out["damages"] += 1
        try:
            found, report = read(tmp_path / "a.tar")
        except ValueError:  # refused with a line
            out["refused"] += 1
            continue
        gone = len(samples.keys() - found.keys()) + sum(set(found[key]) != set(samples[key]) for key in found)
        said = sum(n for reason, n in report.items() if reason in ("sample/cut", "sample/lost") or "checksum" in reason)
        out["silently_lost"] += gone > 0 and (not report if index == "none" else said < gone)
        out["partial"] += index != "still trusted" and any(set(found[key]) != set(samples[key]) for key in found)
        bytes_too = index == "still trusted"
        out["made_up"] += any(found[k][m] != samples.get(k, {}).get(m) for k in found for m in found[k] if bytes_too)
        out["made_up"] += not found.keys() <= samples.keys()
    row.measured(**out)


# row 15

TOWERS = {"image": Image(size=8), "points": Points(points=16), "text": Bytes(context=16)}


def batch_of(path: Path | list[Path]):
    shards = Shards(path, shuffle=False, max_bad=1)
    (found,) = Loader(shards, TOWERS, batch=64, train=False)
    rows = {m: [found.ids[i] for i in found[m].sample.tolist()] for m in found}
    return rows, shards.report(), found


def files(key: str, **change: bytes | None) -> list[tuple[str, bytes]]:
    members = {**corpus.small(key), **{k.replace("_", "."): v for k, v in change.items()}}
    return [(f"{key}.{name}", data) for name, data in members.items() if data is not None]


def shuffled_members() -> list[tuple[str, bytes]]:
    return files("a") + files("b")[:2] + files("c") + files("b")[2:]


CASES = {
    "missing modality": ([*files("a"), *files("b", points_npy=None)], "ab", "a", "ab", {}),
    "no modality of ours": ([*files("a"), ("b.smell.bin", b"x")], "a", "a", "a", {"sample/empty": 1}),
    "unknown extra member": ([*files("a", xyz=b"?"), *files("b")], "ab", "ab", "ab", {}),
    "upper case": ([("a.IMAGE.JPG", dict(files("a"))["a.image.jpg"]), *files("b")], "ab", "b", "b", {}),
    "members apart": (shuffled_members(), "abc", "abc", "abc", {"shard/not-adjacent": 1}),
    "member twice": ([*files("a"), *files("b"), files("b")[0]], "ab", "ab", "ab", {"shard/duplicate-member": 1}),
    "member twice, other bytes": (
        [*files("a"), *files("b"), ("b.text.txt", b"other")],
        "ab",
        "ab",
        "ab",
        {"shard/duplicate-member": 1},
    ),
    "all of a sample twice": ([*files("a"), *files("a")], "a", "a", "a", {"shard/duplicate-member": 4}),
}
"""name -> files, the keys with a row of image, points and text, and what is reported."""


@pytest.mark.parametrize("name", CASES)
def test_samples_put_together_oddly(fault, tmp_path, name):
    content, image, points, text, says = CASES[name]
    row = fault("15", name, image=image, points=points, text=text, reported=says)
    rows, report, _ = batch_of(damage.tar(tmp_path / "a.tar", content))
    row.measured(**{m: "".join(keys) for m, keys in rows.items()}, reported=report)


def test_a_key_in_two_shards(fault, tmp_path):
    row = fault("15", "key in two shards", delivered=4, reported={"sample/duplicate-key": 1})
    shards = [damage.tar(tmp_path / f"{i}.tar", [*files(f"own{i}"), *files("both")]) for i in range(2)]
    rows, report, _ = batch_of(shards)
    row.measured(delivered=len(rows["text"]), reported=report)


def embedded(x: torch.Tensor, m: str) -> torch.Tensor:
    """(n, 8): rows through a fixed map."""
    to = torch.randn(x.shape[1], 8, generator=generator("map", m), dtype=torch.float64)
    return torch.nn.functional.normalize((x / 256 - 0.3) @ to, dim=1)


def test_the_loss_of_a_batch_with_holes(fault, tmp_path):
    """Rows that could not be read are as rows that never were: the loss is that of the set without them."""
    row = fault("15", "loss with missing rows against the subset", difference=fault.most(1e-12), empty_positions=1)
    spoilt = {"image_jpg": b"<html>"}
    broken, subset = [], []
    for i in range(12):
        broken += files(f"{i}", **(spoilt if i % 3 == 0 else {}), **({"text_txt": b" "} if i % 4 == 0 else {}))
        subset += files(
            f"{i}", **({"image_jpg": None} if i % 3 == 0 else {}), **({"text_txt": None} if i % 4 == 0 else {})
        )
    whole = {"image": TOWERS["image"], "text": TOWERS["text"]}
    losses, empty = [], []
    for name, content in (("broken", broken), ("subset", subset)):
        shards = Shards(damage.tar(tmp_path / f"{name}.tar", content), shuffle=False, max_bad=1)
        samples = list(shards.samples(0)) if name == "broken" else [s for s in shards.samples(0) if len(s) > 5]
        batch = collate(samples, whole, positions=range(len(samples)), train=False, seed=0, epoch=0)
        flat = {m: rows.values.flatten(1).double() for m, rows in batch.items()}
        a, b = (embedded(flat[m], m) for m in ("image", "text"))
        losses.append(infonce(a, b, 5.0, sample_a=batch["image"].sample, sample_b=batch["text"].sample).item())
        empty.append(batch.ids.count(""))
    row.measured(difference=abs(losses[0] - losses[1]), empty_positions=empty[0], loss=losses[0])
