"""Filters: the typed tree, the reference in Python, and the same as SQL, over random trees and items."""

import random

import pytest
import torch

from align.search.item import Item
from align.search.local import LocalIndex
from align.search.matching import matches
from align.search.where import All, Compare, Not, Some, parse

NAMES = ("year", "a.b", 'quo"te', "日本", "tags", "camera.iso", "mixed", "it's")
VALUES = (
    0,
    1,
    1.0,
    -3,
    2.5,
    True,
    False,
    "1",
    "dog",
    "Dog",
    "hot dog",
    "",
    "猫",
    "o'clock",
    '"',
    "\udce9",
    2**70,
    "%_",
)


def draw_json(draw):
    """A json with nested, listed, mixed and absent values."""
    out = {}
    for name in draw.sample(NAMES, draw.randint(0, 6)):
        value = draw.choice(VALUES)
        if draw.random() < 0.3:
            value = [draw.choice(VALUES) for _ in range(draw.randint(0, 3))]
        elif draw.random() < 0.1:
            value = draw.choice([None, float("nan"), {"iso": 3, "deep": [{"x": 1}, {"x": "dog"}]}])
        if name == "camera.iso":
            out["camera"] = {"iso": value}
        else:
            out[name] = value
    return out


def draw_items(draw, n):
    """(item, modalities) of n samples from shards and from files."""
    found = []
    for i in range(n):
        key = draw.choice(["{}", "a/{}", "a/b/{}", "c/{}"]).format(i)
        source = {"shard": f"/s/{i % 3}.tar", "key": key}
        if i % 2:
            source = {"file": f"/p/{key}.x", "members": {}}
        label = draw.choice([None, "dog", 3, ["dog", "cat"], {"shape": "cube", "n": 2}, {"shape": ["torus", "cube"]}])
        captions = [draw.choice(["a dog", "日本の猫", "", "two\nlines"]) for _ in range(draw.randint(0, 2))]
        item = Item(key, source, captions, label, draw_json(draw))
        found.append((item, [m for m in ("image", "audio") if draw.random() < 0.6]))
    return found


def draw_tree(draw, depth=0):
    """Plain data of a filter."""
    if depth < 3 and draw.random() < 0.35:
        if draw.random() < 0.3:
            return {"not": draw_tree(draw, depth + 1)}
        return {draw.choice(["any", "all"]): [draw_tree(draw, depth + 1) for _ in range(draw.randint(1, 3))]}
    if draw.random() < 0.15:
        return {"has": draw.choice(["image", {"ne": "audio"}, {"in": ["audio", "image"]}])}
    if draw.random() < 0.15:
        return {"folder": draw.choice(["a", "a/b", "/p", "/p/a/", {"ne": "a"}, {"in": ["c", "/p/a", "nowhere"]}])}
    key = draw.choice([*NAMES, "label", "label.shape", "key", "shard", "caption", "mixed.deep.x"])
    operator = draw.choice(["eq", "ne", "lt", "lte", "gt", "gte", "in", "contains", "exists"])
    value = draw.choice([*VALUES, "a/b/3", "/s/1.tar", "a dog", "cube"])
    if operator in ("lt", "lte", "gt", "gte") and isinstance(value, bool):
        value = 1
    if operator == "in":
        value = [draw.choice(VALUES) for _ in range(draw.randint(0, 4))]
    if operator == "exists":
        value = draw.random() < 0.5
    return {key: {operator: value}} if operator != "eq" or draw.random() < 0.5 else {key: value}


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """(index, [(item, modalities)]), numbers from 1."""
    entries = draw_items(random.Random(1), 120)
    index = LocalIndex.create(tmp_path_factory.mktemp("where") / "index")
    with index.change() as change:
        for item, modalities in entries:
            from align.values import Rows

            change.add({m: Rows(torch.ones(1, 3), torch.zeros(1, dtype=torch.long)) for m in modalities}, [item])
    yield index, entries
    index.close()


def test_sql_is_the_plain_loop(filled):
    index, entries = filled
    draw, several = random.Random(2), 0
    for _ in range(500):
        tree = draw_tree(draw)
        where = parse(tree)
        expected = [i for i, (item, modalities) in enumerate(entries, 1) if matches(where, item, modalities)]
        assert index.numbers(None, where).tolist() == expected, tree
        assert index.count(None, where) == len(expected), tree
        with_sound = [i for i in expected if "audio" in entries[i - 1][1]]
        assert index.numbers("audio", where).tolist() == with_sound, tree
        several += 0 < len(expected) < len(entries)
    assert several > 250  # most trees choose some of the items


def test_the_items_come_back(filled):
    index, entries = filled
    for (item, _), back in zip(entries, index.items(range(1, len(entries) + 1)), strict=True):
        assert (back.key, back.source, back.captions, back.label) == (item.key, item.source, item.captions, item.label)
        assert repr(back.json) == repr(item.json)  # NaN is no NaN's equal


def test_the_reference_by_hand():
    item = Item("a/b/1", {"file": "/p/a/b/1.x"}, ["a dog"], {"shape": "cube"}, {"n": 1, "yes": True, "tags": ["dogs"]})
    holds = {
        "n": [{"n": 1}, {"n": 1.0}, {"n": {"lt": 2, "gte": 1}}, {"n": {"ne": 2}}, {"n": {"in": [5, 1]}}],
        "kinds differ": [{"not": {"n": True}}, {"not": {"yes": 1}}, {"not": {"n": "1"}}, {"not": {"n": {"lt": "2"}}}],
        "lists": [{"tags": {"contains": "dogs"}}, {"not": {"tags": {"contains": "dog"}}}, {"tags": "dogs"}],
        "texts": [{"caption": {"contains": "dog"}}, {"label.shape": {"contains": "ub"}}, {"key": "a/b/1"}],
        "folders": [{"folder": "a"}, {"folder": "a/b"}, {"folder": "/p/a"}, {"not": {"folder": "/p/a/b/1.x"}}],
        "absent": [{"x": {"exists": False}}, {"x": {"ne": 3}}, {"not": {"x": {"lt": 3}}}, {"shard": {"exists": False}}],
        "joined": [{}, {"any": [{"n": 5}, {"n": 1}]}, {"all": [{"n": 1}, {"yes": True}]}, {"n": 1, "has": "image"}],
    }
    for trees in holds.values():
        for tree in trees:
            assert matches(parse(tree), item, ["image"]), tree
            assert not matches(parse({"not": tree}), item, ["image"]), tree


def test_a_long_list_is_no_value():
    item = Item("a", {"shard": "s", "key": "a"}, json={"short": [0.5] * 256, "long": [0.5] * 257})
    assert matches(parse({"short": {"contains": 0.5}}), item)
    assert not matches(parse({"long": {"exists": True}}), item)


def test_the_tree_is_typed():
    tree = {"any": [{"label": "dog"}, {"not": {"year": {"in": [1999, 2000]}}}], "n": {"gte": 1, "lt": 3}}
    assert parse(tree) == All(
        (
            Some((Compare("label", "eq", "dog"), Not(Compare("year", "in", (1999, 2000))))),
            Compare("n", "gte", 1),
            Compare("n", "lt", 3),
        )
    )


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"n": {"gtt": 1}}, "'n': no operator 'gtt', did you mean 'gt'"),
        ({"camera": {"iso": 1}}, 'or write the nested key "camera.iso"'),
        ({"n": None}, 'use {"exists": false} for null'),
        ({"n": [1]}, r'use \{"in": \[...\]\}'),
        ({"n": {"exists": 1}}, "exists is true or false; got 1"),
        ({"n": {"in": 3}}, "in has a list of at most 1000 values; got 3"),
        ({"n": {"in": [[1]]}}, "compares a text, a number"),
        ({"n": {"in": list(range(1001))}}, "at most 1000 values"),
        ({"n": {"lt": True}}, "lt compares numbers or texts; got True"),
        ({"n": float("nan")}, "got nan"),
        ({"n": {}}, "'n' has no operator"),
        ({"any": []}, "'any' joins a list of 1 to 64 filters"),
        ({"any": {"n": 1}}, "'any' joins a list"),
        ({"has": {"lt": "image"}}, "'has' has the operators eq, ne and in"),
        ({"folder": 3}, "'folder' compares a text"),
        ([], r"a filter is a mapping"),
        ({"not": 3}, "a filter is a mapping"),
        ({f"k{i}": i for i in range(65)}, "at most 64 conditions; this one has 65"),
        ({"all": [{"any": [{"n": i} for i in range(m)]} for m in (33, 32)]}, "at most 64 conditions; this one has 65"),
        ({"not": {"not": {"not": {"not": {"not": {"not": {"not": {"not": {"n": 1}}}}}}}}}, "at most 8 deep"),
    ],
)
def test_a_bad_tree_is_one_line(tree, said):
    with pytest.raises(ValueError, match=said) as error:
        parse(tree)
    assert "\n" not in str(error.value)


def test_an_unknown_key_names_the_nearest(filled):
    index, _ = filled
    for call in (index.count, index.numbers, lambda _, where: index.search(torch.ones(1, 3), "image", 3, where)):
        with pytest.raises(ValueError, match=r"no item has the key 'yaer', did you mean 'year'\? There are .*label"):
            call(None, parse({"yaer": 3}))
    with pytest.raises(ValueError, match=r"no item has 'imge', did you mean 'image'\? There are "):
        index.facets(parse({"not": {"has": "imge"}}))
    with pytest.raises(ValueError, match="no item has the key 'quo'"):
        index.find_text("dog", 3, parse({"quo": 1}))


def test_the_widest_filters_run(filled):
    index, _ = filled
    wide = {"any": [{"key": {"in": [f"k{i}" for i in range(1000)]}} for _ in range(32)]}
    wide["any"] += [{"folder": {"in": [f"/p/{i}" for i in range(1000)]}} for _ in range(32)]
    assert index.count(None, parse(wide)) == 0
    deep = {"year": {"exists": True}}
    for _ in range(7):
        deep = {"not": {"all": [deep] * 1}}
    with pytest.raises(ValueError, match="8 deep"):
        parse(deep)
