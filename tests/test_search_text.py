"""Full text of an index: words, scripts without spaces, and queries that look like syntax."""

import random

import pytest
import torch

from align.search.item import Item
from align.search.local import LocalIndex
from align.search.local.text import split_query
from align.search.where import parse

TEXTS = [
    "A dog runs in the snow",  # 1
    "two dogs and a cat",  # 2
    "黒い猫が公園で寝ている",  # 3
    "公园里的狗",  # 4
    "แมวดำนอนในสวนสาธารณะ",  # 5
    "고양이가 잔다",  # 6
    "Café crème, naïve",  # 7
    "東京タワー at night",  # 8
    "ﾈｺ と ＤＯＧ",  # 9: half-width kana, full-width letters
    "a 🐱 on a mat",  # 10
    "100% cotton_wool c++ x-ray",  # 11
    "",  # 12
    "猫 猫 猫",  # 13
]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    made = LocalIndex.create(tmp_path_factory.mktemp("text") / "index")
    with made.change() as change:
        lines = [
            Item(f"{i}", {"shard": "s", "key": f"{i}"}, [t] if t else [], None, {"n": i})
            for i, t in enumerate(TEXTS, 1)
        ]
        change.add({}, lines)
    yield made
    made.close()


def find(index, text, k=20, tree=None):
    scores, samples = index.find_text(text, k, None if tree is None else parse(tree))
    assert scores.tolist() == sorted(scores.tolist(), reverse=True)
    assert (scores > 0).all()
    return samples.tolist()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("dog", [1, 9]),
        ("DOG", [1, 9]),
        ("snow dog", [1, 9]),
        ("do", []),  # a part of a word is no word
        ("cafe", [7]),
        ("猫", [13, 3]),
        ("黒い猫", [3]),
        ("公園", [3]),
        ("公园", [4]),
        ("公园里的", [4]),
        ("狗", [4]),
        ("แมว", [5]),
        ("สวน", [5]),
        ("ดำ", [5]),
        ("고양이", [6]),
        ("東京タワー", [8]),
        ("タワー", [8]),
        ("ネコ", [9]),
        ("🐱", [10]),
        ("x-ray", [11]),
        ("night 猫", [8, 13, 3]),
    ],
)
def test_words_are_found(index, text, found):
    got = find(index, text)
    assert sorted(got) == sorted(found)
    assert (" " not in text and text != "猫") or got[0] == found[0]  # the best where one is better than the others


@pytest.mark.parametrize(
    "text",
    ['"', "'", '"dog', "dog*", "dog AND", "NEAR(dog snow)", "text: dog", "^dog", "{text}: dog", "-dog", "(dog", "dog)",
     "dog\0snow", "\0", "dog; DROP TABLE items", "dog OR OR", "%", "_", "\\", "猫%", "\udce9 dog", "+", "dog^2", "?1"],
)  # fmt: skip
def test_a_query_is_never_syntax(index, text):
    got = find(index, text)
    if "dog" in text:
        assert {1, 9} <= set(got)
    else:
        assert got == ([13, 3] if "猫" in text else [])


def test_random_signs_are_harmless(index):
    draw = random.Random(1)
    signs = "\"'*()^:+-~{}[]\\%_;,.&|!?<>=\0\n\t猫แa1 ANDORNOTEAR"
    for _ in range(300):
        index.find_text("".join(draw.choice(signs) for _ in range(draw.randint(0, 30))), 5)


def test_filters_k_and_nothing(index):
    assert find(index, "dog", tree={"n": {"gt": 1}}) == [9]
    assert len(find(index, "a", k=2)) == 2
    for text in ("", "   ", "zebra"):
        scores, samples = index.find_text(text, 5)
        assert scores.shape == samples.shape == (0,)
    assert split_query("night 猫 cat黒い") == (["night", "cat"], ["猫", "黒い"])


def test_the_score_is_bm25(tmp_path):
    """Against the formula, with k1 = 1.2 and b = .75."""
    draw = random.Random(3)
    texts = [
        " ".join(draw.choice(["red", "green", "blue", "dog", "cat"]) for _ in range(draw.randint(1, 9)))
        for _ in range(40)
    ]
    texts += ["white"] * 60
    runs = ["".join(draw.choice("赤青猫犬鳥") for _ in range(draw.randint(1, 9))) for _ in range(40)] + ["白"] * 60
    with LocalIndex.create(tmp_path / "index") as index:
        with index.change() as change:
            both = [*texts, *runs]
            change.add({}, [Item(f"{i}", {"shard": "s", "key": f"{i}"}, [t]) for i, t in enumerate(both)])
        for word, docs, start, pieces in (("dog", texts, 0, str.split), ("猫", runs, 100, list)):
            every = len(both) if start == 0 else 100
            lengths = [len(pieces(t)) for t in docs]
            mean = (sum(lengths) + (100 if start == 0 else 0)) / every  # a run without spaces is one word
            often = [pieces(t).count(word) for t in docs]
            n = sum(o > 0 for o in often)
            idf = torch.tensor((every - n + 0.5) / (n + 0.5)).log().item()
            expected = {
                i + start + 1: idf * o * 2.2 / (o + 1.2 * (0.25 + 0.75 * size / mean))
                for i, (o, size) in enumerate(zip(often, lengths, strict=True))
                if o
            }
            scores, samples = index.find_text(word, 1000)
            assert dict(zip(samples.tolist(), scores.tolist(), strict=True)) == pytest.approx(expected, rel=1e-4)


def test_the_deleted_are_forgotten(tmp_path):
    with LocalIndex.create(tmp_path / "index") as index:
        for text in ("dog", "猫犬鳥", "猫"):
            with index.change() as change:
                change.add({}, [Item(text, {"shard": "s", "key": text}, [text, "tail"])])
        assert index.delete(["dog", "猫犬鳥"]) == 2
        assert [find(index, text) for text in ("dog", "猫犬鳥", "猫", "tail")] == [[], [], [3], [3]]
        index.compact()
        assert find(index, "tail") == [3]
