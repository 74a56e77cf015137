"""Mixing: asked shares to within one sample, one order for any ranks and workers, sources read in their own order."""

from __future__ import annotations

from collections import Counter

import pytest
from tiny_data import members, write

from align.data import Concat, Loader, Mixture, Shards
from align.data.mixing.curriculum import Curriculum
from align.data.mixing.deal import MOST, Deal, by_size, parts
from align.preprocess import Bytes, Image

SIZES = {"a": 40, "b": 24, "c": 90}
BATCH = 12


@pytest.fixture(scope="module")
def patterns(tmp_path_factory):
    """Three sets; a key is the source's name and a number."""
    folder = tmp_path_factory.mktemp("sources")
    return {
        name: write(folder / name, n, per_shard=20, make=lambda i, name=name: {"text.txt": f"{name} {i}".encode()})
        for name, n in SIZES.items()
    }


def sources(patterns, names="ab", **kwargs):
    return {name: Shards(patterns[name], seed=i, **kwargs) for i, name in enumerate(names)}


def mixed(patterns, weights=None, names="ab", **kwargs):
    return Mixture(sources(patterns, names), weights, **{"batch": BATCH, **kwargs})


def load(mixture, **kwargs):
    return Loader(mixture, {"text": Bytes(context=8)}, **{"batch": BATCH, "train": True, **kwargs})


@pytest.mark.parametrize(
    "weights", [[1], [1, 1], [2, 1], [1, 4], [3, 2, 1], [1, 0, 2], [97, 31, 2, 1, 50], [0.5, 0.25, 0.1], [1] * 9]
)
def test_shares_are_exact_to_within_one_draw(weights):
    """A plain count over three periods."""
    deal = Deal(parts(weights))
    had = [0] * len(weights)
    for n in range(3 * deal.period):
        assert deal.before(n).tolist() == had == [deal.count(s, n) for s in range(len(weights))]
        had[deal.table[n % deal.period]] += 1
        for s, w in enumerate(weights):
            assert abs(had[s] - (n + 1) * w / sum(weights)) < 1
    most = [0] * len(weights)
    for step in range(deal.period):
        given = [x - y for x, y in zip(deal.before(step * 5 + 5), deal.before(step * 5), strict=True)]
        most = [max(m, g) for m, g in zip(most, given, strict=True)]
    assert deal.largest(5).tolist() == most


def test_weights_become_whole_parts():
    assert parts([0.5, 0.25, 0.1]) == [10, 5, 2]
    assert parts([6, 3, 0]) == [2, 1, 0]
    odd = [123456**0.3, 777**0.3, 1e-9]
    near = parts(odd)
    assert sum(near) == MOST
    assert near[2] == 1
    for w, n in zip(odd, near, strict=True):
        assert abs(w / sum(odd) - n / MOST) <= 1 / MOST
    assert by_size({"a": 100, "b": 4, "c": 0}, 0.5) == {"a": 10.0, "b": 2.0, "c": 0.0}
    for wrong in ([], [0, 0], [1, -1], [1, float("nan")]):
        with pytest.raises(ValueError, match="at least one is positive"):
            parts(wrong)


SCHEDULE = {0: {"a": 1, "b": 1}, 7: {"a": 1, "b": 2, "c": 3}, 20: {"c": 1, "a": 2}}


@pytest.mark.parametrize("unit", ["sample", "batch"])
@pytest.mark.parametrize("weights", [{"a": 1, "b": 1, "c": 1}, {"a": 5, "b": 2, "c": 4}, SCHEDULE])
def test_the_plan_is_what_a_plain_loop_gives(patterns, weights, unit):
    """Walk 60 steps: counts, positions in order, a new epoch where the next step would not fit."""
    mixture = mixed(patterns, weights, "abc", unit=unit)
    given = dict.fromkeys(SIZES, 0)
    epoch, position = dict.fromkeys(SIZES, 0), dict.fromkeys(SIZES, 0)
    for step in range(60):
        assert mixture.count_given(step) == given
        plan = mixture.plan(step)
        takes = Counter(name for name, *_ in plan)
        assert len(plan) == BATCH
        assert unit == "sample" or len(takes) == 1
        for name, n in takes.items():
            if position[name] + n > SIZES[name]:
                epoch[name], position[name] = epoch[name] + 1, 0
            expected = {(name, epoch[name], position[name] + i) for i in range(n)}
            assert {turn[:3] for turn in plan if turn.source == name} == expected
            given[name], position[name] = given[name] + n, position[name] + n
        for name, (its_epoch, place) in mixture.places(step + 1).items():
            wrapped = (epoch[name] + 1, 0)  # it may know already that the next step will not fit
            assert (its_epoch, place) in {(epoch[name], position[name]), wrapped}


def test_the_order_does_not_change_with_a_library(patterns):
    mixture = mixed(patterns, {"a": 3, "b": 2, "c": 1}, "abc", batch=4)
    assert [[(name, position) for name, _, position, _ in mixture.plan(step)] for step in range(3)] == EXPECTED


EXPECTED = [
    [("a", 0), ("a", 1), ("c", 0), ("b", 0)],
    [("b", 1), ("b", 2), ("a", 2), ("a", 3)],
    [("a", 4), ("a", 5), ("b", 3), ("c", 1)],
]


@pytest.mark.parametrize("weights", [{"a": 2, "b": 1}, {"a": 1, "b": 4}])
def test_observed_fractions_are_the_asked_ones(patterns, weights):
    seen, n = Counter(), 0
    for found in load(mixed(patterns, weights), steps=23):
        seen.update(found.source)
        n += found.size
        for name, w in weights.items():
            assert abs(seen[name] - n * w / sum(weights.values())) < 1


def test_a_curriculum_changes_them_at_its_step(patterns):
    loader = load(mixed(patterns, {0: {"a": 1}, 3: {"a": 1, "b": 2}}), steps=6)
    assert [Counter(found.source)["b"] for found in loader] == [0, 0, 0, 8, 8, 8]


@pytest.mark.parametrize(
    ("alpha", "expected"), [(None, [40, 24]), (1.0, [40, 24]), (0.0, [1, 1]), (0.5, [6.325, 4.899])]
)
def test_temperature_is_the_size_to_a_power(patterns, alpha, expected):
    given = mixed(patterns, alpha=alpha).count_given(1000)
    for count, share in zip(given.values(), expected, strict=True):
        assert count == pytest.approx(12000 * share / sum(expected), abs=6)


@pytest.mark.parametrize(
    ("weights", "unit", "first", "last"),
    [
        ({"a": 1, "b": 1}, "sample", 24 // 6, 40 // 6),
        ({"a": 1, "b": 1}, "batch", 5, 6),  # a b a b a b: b fills two batches and a three
        ({0: {"a": 1}, 2: {"a": 1, "b": 2}}, "sample", 2 + 24 // 8, 2 + (40 - 24) // 4),
    ],
)
def test_an_epoch_ends_with_the_first_or_the_last_source(patterns, weights, unit, first, last):
    for until, steps in (("first", first), ("last", last)):
        mixture = mixed(patterns, weights, unit=unit, until=until)
        step = 0
        fresh = {name: SIZES[name] for name in "ab"}
        done = {}
        while len(done) < 2:
            for name, n in Counter(name for name, *_ in mixture.plan(step)).items():
                if n > fresh[name]:
                    done.setdefault(name, step)
                fresh[name] -= n
            step += 1
        assert mixture.steps_per_epoch == (min if until == "first" else max)(done.values())
        assert len(mixture) == BATCH * mixture.steps_per_epoch
        assert mixture.steps_per_epoch == steps


def test_a_source_without_weight_has_no_say(patterns):
    for until in ("first", "last"):
        mixture = mixed(patterns, {"a": 1, "b": 0}, unit="batch", until=until)
        assert mixture.steps_per_epoch == 3
        assert mixture.count_given(50) == {"a": 600, "b": 0}


def test_a_jump_far_ahead_is_a_look_into_a_table(patterns):
    """No replay: step 100,000,000 of a curriculum, without the steps before it."""
    mixture = mixed(patterns, {0: {"a": 1}, 10**8 - 20: {"a": 1, "b": 2}}, unit="batch", names="ab")
    assert mixture.curriculum.before(10**8).tolist() == [BATCH * (10**8 - 20 + 7), BATCH * 13]


def test_no_sample_twice_in_a_batch_and_once_in_an_epoch_of_its_source(patterns):
    mixture = mixed(patterns, {"a": 3, "b": 2})
    seen: dict[tuple[str, int], Counter[str]] = {}
    for step in range(40):
        epoch, within = divmod(step, mixture.steps_per_epoch)
        keys = []
        for place, (name, its_epoch, position, _) in enumerate(mixture.plan(step)):
            sample, bad = mixture.read(within * BATCH + place, epoch)
            assert not bad
            assert sample["__source__"] == name
            assert sample["__index__"] == within * BATCH + place
            assert sample["__key__"] == mixture.sources[name].read(position, its_epoch)[0]["__key__"]
            keys.append((name, sample["__key__"]))
            seen.setdefault((name, its_epoch), Counter())[sample["__key__"]] += 1
        assert len(set(keys)) == BATCH
    for (name, its_epoch), keys in seen.items():
        assert set(keys.values()) == {1}
        if (name, its_epoch + 1) in seen:
            assert len(keys) > SIZES[name] - BATCH  # the rest is less than a step takes


@pytest.mark.parametrize("unit", ["sample", "batch"])
def test_any_ranks_workers_and_restart_see_one_order(patterns, unit):
    def see(found):
        return list(zip(found.source, found.ids, found.position.tolist(), strict=True))

    weights = {0: {"a": 2, "b": 1}, 4: {"a": 1, "b": 1}}
    whole = [see(found) for found in load(mixed(patterns, weights, unit=unit), steps=8)]
    assert {name for step in whole for name, _, _ in step} == {"a", "b"}
    for world, workers in ((1, 2), (2, 0), (3, 2), (4, 0)):
        ranks = [
            list(load(mixed(patterns, weights, unit=unit), steps=8, rank=r, world=world, workers=workers))
            for r in range(world)
        ]
        for step, together in enumerate(zip(*ranks, strict=True)):
            joined = [None] * BATCH
            for r, found in enumerate(together):
                joined[r::world] = see(found)
            assert joined == whole[step]
    later = load(mixed(patterns, weights, unit=unit), start_step=5, steps=3)
    assert [see(found) for found in later] == whole[5:]


def owners(mixture, readers, steps=200):
    """(source, its epoch, its stream) -> which readers read of it."""
    found = {}
    for step in range(steps):
        for place, (name, epoch, position, _) in enumerate(mixture.plan(step)):
            found.setdefault((name, epoch, position % 12), set()).add(place % readers)
    return found


@pytest.mark.parametrize("weights", [{"a": 1, "b": 1}, {"a": 3, "b": 2}, {0: {"a": 1}, 9: {"a": 1, "b": 5}}])
def test_a_reader_owns_whole_streams_of_two_sources(patterns, weights):
    mixture = Mixture(sources(patterns, streams=12), weights, batch=BATCH)
    assert mixture.streams == 12
    for readers in (2, 3, 4, 6, 12):
        assert all(len(who) == 1 for who in owners(mixture, readers).values())
    three = Mixture(sources(patterns, "abc", streams=12), batch=BATCH, unit="batch")
    assert all(len(who) == 1 for who in owners(three, 4).values())
    assert mixed(patterns, batch=32).streams == 16  # of 48


def test_every_rank_has_its_share_of_each_source(patterns):
    """Sources are spread over the places, so that no rank has all of the large rows."""
    mixture = mixed(patterns, {"a": 1, "b": 1})
    for step in range(20):
        for world in (2, 3, 4):
            for r in range(world):
                mine = Counter(name for name, *_ in mixture.plan(step)[r::world])
                assert abs(mine["a"] - mine["b"]) <= 2


def test_each_source_has_its_own_members_and_preprocess(tmp_path):
    first = write(tmp_path / "first", 30, make=lambda i: {"image.png": members(i)["image.png"], "text.txt": b"one"})
    second = write(tmp_path / "second", 30, make=lambda i: {"image.png": members(i)["image.png"], "note.txt": b"two"})
    third = {"first": Shards(first), "second": Shards(second, members={"text": ["note.txt"]})}

    class Black(Image):
        def train(self, x, generator):
            return super().train(x, generator) * 0

    mixture = Mixture(third, batch=8, overrides={"second": {"image": Black(size=8)}})
    readers = {"image": Image(size=8), "text": Bytes(context=4)}
    for found in Loader(mixture, readers, batch=8, train=True, steps=4):
        assert found["image"].n == found["text"].n == 8
        for i, source in enumerate(found.source):
            assert bool(found["image"].values[i].any()) == (source == "first")
        assert len({tuple(row) for row in found["text"].values.tolist()}) == 2
    assert mixture.modalities["image"] == 60
    wrong = Mixture(third, batch=8, overrides={"second": {"image": Image(size=10)}})
    with pytest.raises(ValueError, match=r"image preprocess of source 'second' makes rows of 3x10x10 uint8, the model"):
        Loader(wrong, readers, batch=8, train=True)
    with pytest.raises(ValueError, match=r"'second' overrides 'image'; the modalities are text"):
        Loader(mixture, {"text": readers["text"]}, batch=8, train=True)


def test_what_is_bad_is_counted_and_its_place_stays_empty(tmp_path):
    good = write(tmp_path / "good", 30, make=lambda i: {"text.txt": b"x"})
    poor = write(tmp_path / "poor", 30, make=lambda i: {"text.txt": b"x" if i % 3 else b"\xff\xfe"})
    mixture = Mixture({"good": Shards(good, max_bad=1), "poor": Shards(poor, max_bad=1)}, batch=10)
    loader = load(mixture, batch=10, steps=6)
    empty = sum(found.source.count("") for found in loader)
    assert empty == 10
    assert loader.counts == {"text/not-utf8": 10, "sample/empty": 10} == mixture.report()
    assert "poor" in mixture.first("text/not-utf8")
    assert mixture.lost == []
    assert len(list(mixture.samples(0, rank=1, world=2, start=10))) == 25
    mixture.close()


def test_for_evaluation_one_source_follows_another(patterns):
    """Every sample once, as it stands, under its source's name; ranks have equal steps."""
    shards = sources(patterns, "abc", shuffle=False)
    together = Concat(shards)
    assert len(together) == sum(SIZES.values()) == 154
    assert repr(together) == "Concat(154 positions an epoch from a, b, c)"
    expected = [(name, f"{i:05d}") for name, n in SIZES.items() for i in range(n)]
    assert [(s["__source__"], s["__key__"]) for s in together.samples(0)] == expected
    ranks = [list(load(Concat(shards), train=False, rank=r, world=2, workers=2 * r)) for r in range(2)]
    assert {len(found) for found in ranks} == {-(-154 // BATCH)}
    for r, found in enumerate(ranks):
        assert [pair for f in found for pair in zip(f.source, f.ids, strict=True)] == expected[r::2]
    assert load(together).batch == BATCH  # any batch will do


def test_nonsense_is_refused(patterns):
    cases = [
        (r"weights name 'bb', which is no source; did you mean b\?", {"weights": {"a": 1, "bb": 1}}),
        (r"weights name 'zoo', which is no source; there are: a, b", {"weights": {"zoo": 1}}),
        (r"weights or alpha=0.5, not both", {"weights": {"a": 1}, "alpha": 0.5}),
        (r"begin at step 0; got the steps \[5\]", {"weights": {5: {"a": 1}}}),
        (r"not both at once", {"weights": {0: {"a": 1}, "b": 1}}),
        (r"its steps are \['x'\]", {"weights": {"x": {"a": 1}}}),
        (r"at least one is positive", {"weights": {"a": 0, "b": 0}}),
        (r"unit 'sample' or 'batch'", {"unit": "row"}),
        (r"overrides name 'c', which is no source", {"overrides": {"c": {}}}),
    ]
    for message, given in cases:
        with pytest.raises(ValueError, match=message):
            mixed(patterns, **given)
    with pytest.raises(ValueError, match="needs sources"):
        Mixture({}, batch=4)
    with pytest.raises(ValueError, match="batches of 12, the loader asks for 6"):
        load(mixed(patterns), batch=6)
    with pytest.raises(IndexError, match="position 48 of 48"):
        mixed(patterns, {"b": 1, "a": 1}).read(48)
    with pytest.raises(
        ValueError, match=r"up to 12 samples of source 'b', which has 10: lower the batch or its weight"
    ):
        Curriculum({"a": 40, "b": 10}, {0: {"a": 1}, 9: {"b": 1}}, batch=12, whole=False)
    inside = r"up to 12 samples of source 'b', which has 10: lower the batch or mix inside the batches \(unit: sample\)"
    with pytest.raises(ValueError, match=inside):
        Curriculum({"a": 40, "b": 10}, {0: {"a": 9, "b": 1}}, batch=12, whole=True)
