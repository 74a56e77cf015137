"""Conditions as people type them: each means what it means to ``align shards filter``."""

from __future__ import annotations

import json
import random

import pytest

from align.curation.cut.expression import Expression, Missing
from align.search.conditions import read_filter
from align.search.item import Item
from align.search.matching import matches
from align.search.where import parse


def item(about):
    return Item(str(about.get("n", "k")), {"shard": "/s.tar", "key": "k"}, ["a red cone"], about.get("label"), about)


def passes(text, about):
    return matches(read_filter(text), item(about), ["image", "text"])


def by_filter(text, about):
    """The answer of ``align shards filter``."""

    def columns(name):
        if name not in about:
            raise Missing(name)
        return about[name]

    return Expression(text).why_not(columns, {}) is None


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("year >= 2000", {"year": {"gte": 2000}}),
        ("2000 <= year < 2010", {"all": [{"year": {"gte": 2000}}, {"year": {"lt": 2010}}]}),
        ("2000 > year", {"year": {"lt": 2000}}),
        ("'cat' == label", {"label": "cat"}),
        ("-1.5 < x", {"x": {"gt": -1.5}}),
        ('label["shape"] == "cone"', {"label.shape": "cone"}),
        ('camera["lens"]["mm"] == 50', {"camera.lens.mm": 50}),
        ("label in ['a', 'b']", {"label": {"in": ["a", "b"]}}),
        ("'red' in caption", {"caption": {"contains": "red"}}),
        ("a == 1 or b == 2 and c == 3", {"any": [{"a": 1}, {"all": [{"b": 2}, {"c": 3}]}]}),
        ("a != 1", {"all": [{"not": {"a": 1}}, {"a": {"exists": True}}]}),
        ("label not in ['a']", {"all": [{"not": {"label": {"in": ["a"]}}}, {"label": {"exists": True}}]}),
        ("a is None", {"a": {"exists": False}}),
        ("a is not None", {"a": {"exists": True}}),
        ("flagged", {"flagged": True}),
        ("not flagged", {"all": [{"not": {"flagged": True}}, {"flagged": {"exists": True}}]}),
        ("has_audio", {"has": "audio"}),
        ("not has_audio", {"not": {"has": "audio"}}),
        ('{"year": {"gte": 2000}}', {"year": {"gte": 2000}}),
        (' {"any": [{"a": 1}, {"has": "text"}]} ', {"any": [{"a": 1}, {"has": "text"}]}),
    ],
)
def test_each_form_is_a_filter(text, tree):
    assert read_filter(text) == parse(tree)


def test_random_conditions_mean_what_they_mean_to_the_filter_of_shards():
    """As there, an item without a name of the condition does not pass, where every name is compared in turn."""
    draw = random.Random(0)
    names = {"n": [1, 2, 3], "x": [-0.5, 0.5], "label": ["a", "b"], "flag": [True, False]}

    def leaf():
        name = draw.choice(list(names))
        value = draw.choice(names[name])
        forms = [f"{name} == {value!r}", f"{name} != {value!r}", f"{name} in [{value!r}]", f"{name} not in [{value!r}]"]
        if name in ("n", "x"):
            forms += [f"{name} {sign} {value}" for sign in ("<", "<=", ">", ">=")] + [f"{value} < {name} <= 3"]
        if name == "flag":
            forms += ["flag", "not flag"]
        return draw.choice(forms)

    def tree(depth):
        if not depth or draw.random() < 0.3:
            return leaf()
        join = draw.choice([" and ", " or "])
        text = join.join(f"({tree(depth - 1)})" for _ in range(2))
        return f"not ({text})" if draw.random() < 0.2 else text

    seen = set()
    for _ in range(400):
        text = tree(2)
        about = {name: draw.choice(values) for name, values in names.items()}
        seen.add(passes(text, about))
        assert passes(text, about) == by_filter(text, about), (text, about)
        lacking = leaf(), {name: x for name, x in about.items() if draw.random() < 0.5}
        assert passes(*lacking) == by_filter(*lacking), lacking
    assert seen == {True, False}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("len(label) == 3", "an index cannot answer 'len(label)'"),
        ("width * height > 9", "an index cannot answer 'width * height'"),
        ("score(image, text) > 1", "an index cannot answer 'score(image, text)'"),
        ("a == b", "an index cannot answer 'a'"),
        ("1 == 1", "an index cannot answer '1'"),
        ("'a' in 'ab'", "an index cannot answer"),
        ("a ==", "is no condition"),
        ("__import__('os')", "is not allowed in a condition"),
        ("a.b == 1", "is not allowed in a condition"),
        ("3", "an index cannot answer '3'"),
        ('{"a": ', "begins like JSON and is none"),
        ('{"a": {"gtr": 1}}', "no operator 'gtr'"),
        ("a > True", "gt compares numbers or texts"),
        ("a == [1]", "eq compares a text, a number"),
        (" and ".join(["a == 1"] * 65), "1 to 64 filters"),
        ("a == 1 or (b == 1 and (" * 5 + "a == 1" + "))" * 5, "at most 8 deep"),
        ("a == 1 and " * 400 + "b == 1", "at most 2000 characters"),
    ],
)
def test_what_an_index_cannot_answer_is_one_line(text, says):
    with pytest.raises(ValueError) as error:
        read_filter(text)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_filter_of_json_is_what_json_says():
    assert passes(json.dumps({"label": {"in": ["a"]}}), {"label": "a"})
    assert not passes(json.dumps({"label": {"in": ["a"]}}), {"label": "b"})
