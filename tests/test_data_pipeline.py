"""A pipeline of the user's own in our Loader, against the real webdataset: equal to our reading where it shuffles
nothing, an epoch as long as stated whatever it yields, and its faults in one line."""

from __future__ import annotations

import gc
import io
import os
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import webdataset
from PIL import Image as Picture
from ranks import on_ranks
from tiny_data import holed, members, png, readers, wav, write
from written import run_code

from align.data import Concat, Loader, Mixture, Pipeline, Shards, TooManyBad, collate
from align.data.bad import AGAIN
from align.data.ledger import everyones
from align.preprocess import Audio, Bytes, Image

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # webdataset does not close its files
    pytest.mark.filterwarnings("ignore:The given NumPy array is not writable"),  # its decoders, before 0.2.86
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def _closed_here():
    """webdataset's files are closed by the garbage collector: before the next module, where a warning is an error."""
    yield
    gc.collect()


def rich(i: int) -> dict[str, bytes]:
    """A sample with holes, and in every third one two more pictures."""
    more = {"image.0.png": png(100 + i), "image.1.png": png(200 + i)} if i % 3 == 0 else {}
    return {**holed(i), **more}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """40 samples in shards of 10."""
    folder = tmp_path_factory.mktemp("pipeline")
    write(folder, 40, per_shard=10, make=rich)
    return folder


def dataset(folder: Path, **options):
    """The unshuffled pipeline over a folder's shards."""
    urls = sorted(map(str, folder.glob("*.tar")))
    options = {"shardshuffle": False, "nodesplitter": webdataset.split_by_node, **options}
    return webdataset.WebDataset(urls, **options)


def own(folder: Path):
    return Shards(str(folder / "*.tar"), shuffle=False)


def load(make, steps: int, *, samples: int = 40, batch: int = 8, using=None, **options):
    """(batches, counts) of a pipeline in a training Loader."""
    source = Pipeline(make, samples=samples) if callable(make) else make
    loader = Loader(source, using or readers(), batch=batch, train=True, steps=steps, **options)
    try:
        return list(loader), loader.counts
    finally:
        loader.close()


def equal(a, b) -> bool:
    """Whether two batches hold the same, to the bit."""
    same = [torch.equal(a[m].values, b[m].values) and torch.equal(a[m].sample, b[m].sample) for m in readers()]
    same += [torch.equal(getattr(a, name), getattr(b, name)) for name in ("group", "weight", "position")]
    return all(same) and (a.ids, a.labels) == (b.ids, b.labels)


def keys(batches) -> list[str]:
    return [key for batch in batches for key in batch.ids]


# equal to our own reading


@pytest.mark.parametrize("decode", [False, True])
def test_an_unshuffled_pipeline_gives_what_shards_give(folder, decode):
    """Holes and several rows; as bytes, and decoded to pictures, arrays, str and dicts."""

    def make():
        return dataset(folder).decode("pil") if decode else dataset(folder)

    ours, _ = load(own(folder), 8)
    theirs, counts = load(make, 8)
    assert all(map(equal, ours[:5], theirs[:5]))
    assert counts == {**Loader(own(folder), readers(), batch=8, train=True, steps=8).counts, **counts}
    assert keys(theirs[5:]) == keys(ours[:3])  # the second epoch: the pipeline begins again
    assert counts[AGAIN] == 1
    assert [batch.source[0] for batch in theirs] == [batch.source[0] for batch in ours]


def test_every_decoder_of_pictures_gives_the_same_rows(folder):
    using = {"image": Image(size=8)}
    expected, _ = load(own(folder), 3, using=using)
    for spec in ("pilrgb", "rgb", "rgb8", "torchrgb", "torchrgb8", "rgba8", "torchrgba"):
        found, counts = load(lambda spec=spec: dataset(folder).decode(spec), 3, using=using)
        assert [batch["image"].values.tolist() for batch in found] == [b["image"].values.tolist() for b in expected]
        assert not any(reason.startswith("image/") for reason in counts)


def test_a_custom_decoder_may_give_sounds_as_array_and_rate(folder):
    def sound(name, data):
        return soundfile.read(io.BytesIO(data), dtype="float32") if name.endswith("wav") else None

    using = {"audio": Audio(sample_rate=8000, seconds=0.1, n_mels=8)}
    found, _ = load(lambda: dataset(folder).decode(sound), 3, using=using)
    expected, _ = load(own(folder), 3, using=using)
    assert [b["audio"].values.tolist() for b in found] == [b["audio"].values.tolist() for b in expected]
    assert sum(batch["audio"].n for batch in found) > 5


def batch_of(*samples, members=None):
    numbered = [{"__key__": str(i), "__url__": "u", **sample} for i, sample in enumerate(samples)]
    positions = range(len(samples))
    return collate(numbered, readers(), positions=positions, train=False, seed=0, epoch=0, members=members)


def test_decoded_members_under_every_name_are_as_their_bytes():
    pixels = np.array(Picture.open(io.BytesIO(png(1))))
    rate, wave = 8000, soundfile.read(io.BytesIO(wav(1)), dtype="int16")[0]
    written = batch_of(
        {"png": png(1), "txt": b"a cone\nof wood", "flac": wav(1), "cls": b"3"},
        {"image.png": png(1), "text.txt": b"a cone\n\nof wood", "json": b'{"label": "x", "group": 4, "weight": 2}'},
        {"image.png": png(1), "text.txt": b"one\ntwo", "json": b'{"label": [1, 2], "group": [1]}'},
    )
    decoded = batch_of(
        {"png": Picture.fromarray(pixels), "txt": "a cone\nof wood ", "flac": (wave, rate), "cls": np.int64(3)},
        {
            "image.png": torch.from_numpy(pixels).permute(2, 0, 1),
            "text.txt": "a cone\n\nof wood",
            "json": {"label": "x", "group": np.int32(4), "weight": torch.tensor(2.0)},
        },
        {"image": pixels, "text": ["one", " two"], "json": {"label": np.array([1, 2]), "group": (1,)}, "audio": None},
    )
    assert equal(written, decoded)
    assert decoded.labels == [3, "x", [1, 2]]
    assert [decoded[m].n for m in ("image", "text", "audio")] == [3, 5, 1]
    plain = batch_of(
        {"photo": pixels, "caption": "a cone", "label": "x"}, members={"image": ["photo"], "text": ["caption"]}
    )
    assert (plain["image"].n, plain["text"].n, plain.labels) == (1, 1, ["x"])


def test_decoded_members_that_are_nothing_are_counted_and_no_str_is_a_path(tmp_path):
    (tmp_path / "secret.png").write_bytes(png(1))
    samples = [
        {"text": "  ", "image": np.zeros((0, 4, 3), np.uint8)},
        {"image": str(tmp_path / "secret.png"), "text": "\ud800"},
        {"text": [], "image": None, "json": {"group": object(), "label": object(), "weight": -1}},
    ]
    _, counts = load(Pipeline(lambda: iter(samples), samples=3, max_bad=1), 1, batch=3)
    assert counts == {
        "image/empty": 1,
        "image/not-an-image": 1,
        "json/group": 1,
        "json/label": 1,
        "json/weight": 1,
        "sample/empty": 3,
        "text/blank": 2,
        "text/not-utf8": 1,
    }
    with pytest.raises(ValueError, match=r"shard-3: k\.jpg: an image is read from bytes, .*, not dict"):
        load(lambda: [{"__key__": "k", "__url__": "shard-3", "jpg": {"no": "picture"}}], 1, samples=3, batch=3)


def test_bytes_under_a_modalitys_plain_name_or_one_that_states_no_format_are_read():
    """As ``.rename(image="jpg;png", text="txt")`` makes them."""
    about = {"json": b'{"group": 1, "weight": 2}'}
    expected = batch_of({"png": png(1), "txt": b"a cone\n", **about})
    assert equal(expected, batch_of({"image": png(1), "text": b"a cone\n", **about}))
    members = {"image": ["img"], "text": ["caption"], "label": ["class"]}
    named = batch_of({"img": png(1), "caption": b"a cone\n", "class": b"3"}, members=members)
    assert (named["image"].values.tolist(), named.labels) == (expected["image"].values.tolist(), [3])
    assert named["text"].values.tolist() == expected["text"].values.tolist()
    assert batch_of({"text": ("one", None, "two")})["text"].n == 2
    make = partial(list, [{"image": png(1), "text": b"a", "gif": b"", "pkl": b"", "__key__": 0}])
    assert Pipeline(make, samples=3).modalities == {"gif": 1, "image": 1, "text": 1}
    batches, counts = load(make, 1, samples=2, batch=2)
    assert (batches[0]["image"].n, keys(batches), counts) == (2, ["0", "0"], {AGAIN: 1})


def test_the_look_keeps_no_sample():
    made = []

    def make():
        for i in range(40):
            made.append(np.zeros((4, 4, 3), np.uint8))
            yield {"image": made[-1], "label": i % 2}

    pipeline = Pipeline(make, samples=40)
    assert (pipeline.modalities, pipeline.classes) == ({"image": 32}, {"label": ["0", "1"]})
    assert [sys.getrefcount(made[i]) for i in range(32)] == [2] * 32  # ours and getrefcount's


# epochs, workers, ranks


def test_ranks_and_workers_share_the_shards_out(folder):
    """Recomputed by hand: a rank has the shards of split_by_node, its workers share these out by split_by_worker."""
    per_shard = [[f"{i:05d}" for i in range(s, s + 10)] for s in range(0, 40, 10)]
    using = {"text": Bytes(context=8)}

    def make():
        return dataset(folder).map(lambda sample: {"__key__": sample["__key__"], "text": "x"})

    for world, workers in ((1, 2), (2, 0), (2, 2)):
        readers_ = world * max(1, workers)
        for rank in range(world):
            batches, counts = load(make, 10, using=using, rank=rank, world=world, workers=workers)
            lines = [
                [key for shard in per_shard[rank::world][w :: max(1, workers)] for key in shard]
                for w in range(max(1, workers))
            ]
            each = 8 // readers_
            for step, batch in enumerate(batches):
                expected = [""] * (8 // world)
                for w, line in enumerate(lines):
                    expected[w :: max(1, workers)] = [line[(step * each + i) % len(line)] for i in range(each)]
                assert batch.ids == expected
            begun = sum((10 * each - 1) // len(line) for line in lines)
            assert counts == {AGAIN: begun}


def test_uneven_shards_give_every_rank_the_same_steps(tmp_path):
    write(tmp_path, 25, per_shard=10)  # 10, 10 and 5: rank 0 has 15, rank 1 has 10
    found = [load(lambda: dataset(tmp_path), 9, rank=rank, world=2) for rank in (0, 1)]
    assert [len(batches) for batches, _ in found] == [9, 9]
    assert [batch.size for batches, _ in found for batch in batches] == [4] * 18
    assert [counts[AGAIN] for _, counts in found] == [2, 3]  # 36 positions of 15, of 10


def gathered():
    """On a real rank: the keys of its steps, and what all ranks count."""
    loader = Loader(
        Pipeline(partial(dataset, Path(sys.argv[-1])), samples=24),
        readers(),
        batch=8,
        train=True,
        steps=6,
        rank=torch.distributed.get_rank(),
        world=2,
        workers=2,
        share=everyones,
    )
    ids = [batch.ids for batch in loader]
    loader.close()
    return ids, loader.counts


def breaks_on_rank_1():
    for i in range(50):
        if i == 9 and os.environ["RANK"] == "1":
            raise KeyError("fname")
        yield {"text": "a"}


def failing():
    """On a real rank: the error of a pipeline that fails on rank 1, and the samples of all ranks before it."""
    options = {"batch": 8, "train": True, "steps": 6, "rank": torch.distributed.get_rank(), "world": 2}
    loader = Loader(Pipeline(breaks_on_rank_1, samples=24), {"text": Bytes(context=4)}, share=everyones, **options)
    with pytest.raises(ValueError, match="failed") as raised:
        list(loader)
    return str(raised.value), loader.ledger.seen


@pytest.mark.sweep
def test_two_real_ranks_with_two_workers(tmp_path, monkeypatch):
    write(tmp_path / "shards", 15, per_shard=3)  # 5 shards: 3 and 2 a rank, of these 2, 1, 1 and 1 a worker
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(sys, "argv", [*sys.argv, str(tmp_path / "shards")])
    found = on_ranks([gathered, failing], tmp_path / "run")
    (first, counts), (second, also) = found["gathered"]
    says = "test_data_pipeline.breaks_on_rank_1 failed (rank 1 of 2, worker 0 of 1): KeyError: 'fname'"
    assert [(text, seen) for text, seen in found["failing"]] == [(says, 16)] * 2  # none is left waiting for another
    assert counts == also == {AGAIN: 1 + 3 * 3}  # 12 positions a reader: of 6 samples once again, of 3 three times
    assert [len(ids) for ids in (*first, *second)] == [4] * 12
    assert {key for ids in first for key in ids} == {f"{i:05d}" for s in (0, 2, 4) for i in range(3 * s, 3 * s + 3)}
    assert {key for ids in second for key in ids} == {f"{i:05d}" for s in (1, 3) for i in range(3 * s, 3 * s + 3)}


def test_a_resampled_pipeline_never_runs_out(folder):
    for workers in (0, 2):
        batches, counts = load(lambda: dataset(folder, resampled=True), 12, workers=workers)
        assert AGAIN not in counts
        found = Counter(keys(batches))
        assert sum(found.values()) == 96
        assert len([key for key in found if key]) > 15


def test_the_environment_is_as_it_was(folder, monkeypatch):
    monkeypatch.setenv("RANK", "7")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    batches, _ = load(lambda: dataset(folder), 2, rank=1, world=2)
    assert keys(batches)[0] == "00010"  # the Loader's rank, not the environment's
    assert (os.environ["RANK"], "WORLD_SIZE" in os.environ) == ("7", False)


def test_a_pass_begins_the_pipeline_anew(folder):
    loader = Loader(Pipeline(lambda: dataset(folder), samples=40), readers(), batch=8, train=True, steps=2)
    assert keys(loader) == keys(loader)
    resumed = Loader(
        Pipeline(lambda: dataset(folder), samples=40), readers(), batch=8, train=True, steps=2, start_step=3
    )
    assert keys(resumed) == keys(loader)  # its steps go on, its data begins anew
    assert [int(batch.position[0]) for batch in resumed] == [24, 32]


@pytest.mark.parametrize(
    "make", [lambda: [{"text": "a"}, {}, {"text": "b"}], lambda: iter([{"text": "a"}, {"text": "b"}])]
)
def test_any_iterable_of_dicts_will_do_and_markers_are_no_samples(make):
    batches, counts = load(make, 2, samples=5, batch=5, using={"text": Bytes(context=4)})
    assert [batch["text"].n for batch in batches] == [5, 5]
    assert keys(batches) == [f"{epoch}-{position}" for epoch in (0, 1) for position in range(5)]
    assert counts == {AGAIN: 4}


def test_beginning_again_is_no_fault():
    def make():
        yield {"text": "a"}

    pipeline = Pipeline(make, samples=50, max_bad=0.0)
    loader = Loader(pipeline, {"text": Bytes(context=4)}, batch=50, train=True, steps=3)
    assert len(list(loader)) == 3
    assert loader.counts == pipeline.report() == {AGAIN: 149}
    assert loader.ledger.faults == 0
    assert loader.ledger.shards == {pipeline.name: {AGAIN: 149}}


# refusals


@pytest.mark.parametrize("yields", [[], [{}, {}]])
def test_a_pipeline_without_samples_is_refused(yields):
    for workers in (0, 2):
        with pytest.raises(ValueError, match=r"yields no sample to rank 0 of 1, worker 0 of .: are there fewer shards"):
            load(lambda: yields, 2, workers=workers)


def test_markers_without_end_are_refused(monkeypatch):
    monkeypatch.setattr("align.data.restarting.MARKERS", 100)
    with pytest.raises(ValueError, match=r"failed \(rank 0 of 1, .*\): ValueError: 100 empty dicts in a row"):
        load(lambda: iter(dict, 1), 1)


def test_a_pipeline_whose_iterator_is_spent_is_refused():
    spent = iter([{"text": "a"}] * 3)
    with pytest.raises(ValueError, match=r"yields no sample to rank 0 of 1, worker 0 of 1, when it begins again"):
        load(lambda: spent, 1, samples=8)


def test_a_reader_without_a_shard_is_refused(tmp_path):
    write(tmp_path, 8)  # one shard
    with pytest.raises(ValueError, match=r"rank 1 of 2, worker 0 of 1"):
        load(lambda: dataset(tmp_path), 1, rank=1, world=2)


def test_webdatasets_refusal_of_several_nodes_is_one_line(folder):
    make = partial(dataset, folder, nodesplitter=webdataset.shardlists.single_node_only)
    with pytest.raises(
        ValueError, match=r"^test_data_pipeline\.dataset failed \(rank 0 of 2, .*\): ValueError: .*node"
    ):
        load(make, 1, rank=0, world=2, workers=2)


def test_a_pipeline_that_fails_is_named(tmp_path):
    write(tmp_path, 20)
    path = sorted(tmp_path.glob("*.tar"))[1]
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"failed \(rank 0 of 1, worker 0 of 1\): ReadError: .*unexpected end of data"):
        load(lambda: dataset(tmp_path), 3)
    with pytest.raises(ValueError, match=r"failed .*: TypeError: 'int' object is not iterable"):
        load(lambda: 3, 1)


def test_what_is_no_dict_costs_its_position_and_the_budget():
    def make():
        for i in range(100):
            yield {"text": str(i)} if i % 10 else (b"a", b"b")

    using = {"text": Bytes(context=4)}
    batches, counts = load(make, 4, samples=10, batch=10, using=using)
    assert keys(batches)[:2] == ["", "0-1"]
    assert counts == {"sample/not-a-dict": 4, "sample/empty": 4}
    assert Pipeline(make, samples=3).modalities == {"text": 28}  # of the first 32
    with pytest.raises(TooManyBad, match=r"sample/not-a-dict +11 +.*: a tuple"):
        load(lambda: [(1, 2)], 2, samples=11, batch=11)
    for other, says in (((1, 2), "a tuple"), ({1: "a"}, "a dict with the key 1")):
        with pytest.raises(ValueError, match=rf"yields {says}, no dict .*: leave out .to_tuple\(\) and .batched\(\)"):
            Pipeline(lambda other=other: [other] * 40, samples=3).modalities  # noqa: B018
    with pytest.raises(ValueError, match=r"yields batches: leave out .batched\(\)"):
        load(lambda: [{"__key__": ["a", "b"], "text": ["x", "y"]}], 1)


def test_a_damaged_member_is_counted_as_ever(tmp_path):
    write(tmp_path, 16, make=lambda i: {**members(i), **({"image.png": b"no picture"} if i % 4 == 0 else {})})
    batches, counts = load(lambda: dataset(tmp_path), 2)
    assert counts == {"image/not-an-image": 4}
    assert sum(batch["image"].n for batch in batches) == 12


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="samples=0"):
        Pipeline(list, samples=0)
    for samples in (None, 2.5, True, "3"):
        with pytest.raises(TypeError, match=f"samples={samples!r} says .* a whole number, at least 1"):
            Pipeline(list, samples=samples)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="make is a function that returns the pipeline, not a list"):
        Pipeline([], samples=1)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"batch of 8 needs as many samples; .* hold 4: lower the batch"):
        load(lambda: [{"text": "a"}], 1, samples=4)


def test_a_pipeline_only_trains(folder):
    pipeline = Pipeline(lambda: dataset(folder), samples=40)
    for source in (pipeline, Concat({"a": own(folder), "b": pipeline})):
        with pytest.raises(ValueError, match="a pipeline only trains; validation and evaluation read each sample once"):
            Loader(source, readers(), batch=8, train=False)


def test_the_order_is_said_to_be_the_pipelines(folder, caplog):
    load(lambda: dataset(folder), 0)
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        "a stopped run goes on with its exact step and weights, and the pipeline begins anew"
    ]
    caplog.clear()
    load(lambda: dataset(folder), 0, rank=1, world=2)
    load(own(folder), 0)
    assert not caplog.records


def test_a_pipeline_is_a_source_of_a_mixture(folder):
    sources = {"shards": own(folder), "pipe": Pipeline(lambda: dataset(folder).decode("pil"), samples=30)}
    mixture = Mixture(sources, {"shards": 1, "pipe": 1}, batch=8)
    assert mixture.streams == 8  # those of the shards: a pipeline has none
    for workers in (0, 2):
        batches, _ = load(mixture, 6, workers=workers)
        assert Counter(name for batch in batches for name in batch.source if name) == Counter(
            name for batch in batches for key, name in zip(batch.ids, batch.source, strict=True) if key
        )
        given = [[k for b in batches for k, s in zip(b.ids, b.source, strict=True) if s == name] for name in sources]
        if not workers:
            assert given[0] == given[1][: len(given[0])]
        assert len(given[1]) > 20


def test_nothing_pickled_is_opened(tmp_path):
    """A pickle in a shard comes as bytes, and no name makes our code open it."""
    trap = b"cos\nsystem\n(S'touch %s'\ntR." % str(tmp_path / "ran").encode()
    import tarfile

    with tarfile.open(tmp_path / "train-0.tar", "w") as tar:
        for name in ("1.image.pkl", "1.pyd", "1.text.pickle", "1.pth", "1.text.txt"):
            info = tarfile.TarInfo(name)
            info.size = len(trap)
            tar.addfile(info, io.BytesIO(trap))
    using = {"image": Image(size=8), "text": Bytes(context=8)}
    (batch,), _ = load(lambda: dataset(tmp_path), 1, samples=1, batch=1, using=using)
    assert (batch["image"].n, batch["text"].n) == (0, 4)  # the lines of the .txt
    for safe in ({"pre": [], "post": []}, {"only": ["jpg", "text.txt"]}):  # as docs/webdataset.md says
        load(lambda safe=safe: dataset(tmp_path).decode("pil", **safe), 1, samples=1, batch=1, using=using)
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
def test_webdataset_is_imported_when_it_is_needed(tmp_path):
    program = "import sys, align.data; align.data.Pipeline(list, samples=1); assert 'webdataset' not in sys.modules"
    (tmp_path / "program.py").write_text(program)
    run_code(tmp_path / "program.py")


# ours handed out


def test_our_shards_as_a_webdataset(folder):
    found = list(own(folder).webdataset())
    for sample, expected in zip(found, own(folder).samples(0), strict=True):
        assert sample["__url__"] == expected["__url__"]
        assert sample["__key__"] == expected["__key__"]
        assert {k: v for k, v in sample.items() if k[0] != "_"} == {k: v for k, v in expected.items() if k[0] != "_"}
    assert any("image.1.png" in sample for sample in found)
    assert len({frozenset(sample) for sample in found}) > 5  # holes
    picture = next(iter(own(folder).webdataset().decode("pil").to_tuple("image.0.png")))[0]
    assert picture.size == (12, 12)


def test_it_splits_by_rank_and_worker(folder, monkeypatch):
    seen = []
    for rank in (0, 1):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "2")
        loader = torch.utils.data.DataLoader(own(folder).webdataset(), batch_size=None, num_workers=2)
        seen += [(rank, sample["__key__"]) for sample in loader]
    assert sorted(key for _, key in seen) == [f"{i:05d}" for i in range(40)]
    assert {key[:4] for rank, key in seen if rank == 0} == {"0000", "0002"}


def test_it_shuffles_and_resamples_shards(folder):
    shuffled = [sample["__key__"] for sample in own(folder).webdataset(shardshuffle=10)]
    assert sorted(shuffled) == [f"{i:05d}" for i in range(40)]
    endless = iter(own(folder).webdataset(resampled=True))
    assert len([next(endless) for _ in range(100)]) == 100


def test_it_comes_back_as_a_pipeline(folder):
    ours, _ = load(own(folder), 5)
    theirs, _ = load(own(folder).webdataset, 5)
    assert all(map(equal, ours, theirs))


@pytest.mark.parametrize("name", ["a::b", "${HOME}", "c:d", "with space", "[1]", "été"])
def test_any_name_of_a_folder_will_do(tmp_path, name):
    (tmp_path / name).mkdir()
    write(tmp_path / "plain", 3)
    (tmp_path / "plain/train-000000.tar").rename(tmp_path / name / "train-000000.tar")
    shards = Shards(tmp_path / name / "train-000000.tar", shuffle=False)
    assert [sample["__key__"] for sample in shards.webdataset()] == ["00000", "00001", "00002"]


def test_what_webdataset_would_read_otherwise_is_not_handed_out(tmp_path):
    pattern = write(tmp_path / "x#1", 3)
    with pytest.raises(ValueError, match=r"webdataset takes '#' and '.' in a path as parts of a URL; rename it"):
        Shards(pattern).webdataset()
    pipe = Shards(f"pipe:cat {pattern}", allow_pipe=True)
    with pytest.raises(ValueError, match=r"pipe:cat .*: webdataset would read it by a command of its own"):
        pipe.webdataset()
