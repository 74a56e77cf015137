"""Text and arrays: strict UTF-8, nothing empty, rows of fixed length that keep their end."""

from __future__ import annotations

import io
import pickle
import random
from collections import Counter

import numpy as np
import pytest
import torch

from align.preprocess import Array, Bytes, Tokens
from align.preprocess.byte_pairs import read_byte_pairs
from align.values import BadSample

BOTH = [Tokens(12), Bytes(12)]


@pytest.mark.parametrize("text", BOTH, ids=repr)
@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (b"", "text/empty"),
        (" \n\t", "text/empty"),
        (b"\xef\xbb\xbf", "text/empty"),
        (b"caf\xe9", "text/not-utf8"),
        (b"\xff\xfea\0", "text/not-utf8"),
        ("\ud800", "text/not-utf8"),
        (b"a" * 1_000_000, "text/too-large"),
        ("a" * 1_000_000, "text/too-large"),
    ],
)
def test_reasons(text, source, reason):
    with pytest.raises(BadSample) as caught:
        text.decode(source)
    assert caught.value.reason == reason


@pytest.mark.parametrize("text", BOTH, ids=repr)
def test_sources(text, tmp_path):
    (tmp_path / "a.txt").write_text("a blue cone\n", encoding="utf-8")
    for source in ("a blue cone", b"a blue cone", b"\xef\xbb\xbfa blue cone \n", tmp_path / "a.txt"):
        assert text.decode(source) == "a blue cone"
    assert text.decode(str(tmp_path / "a.txt")).endswith("a.txt")  # a str is the text itself
    with pytest.raises(FileNotFoundError, match=r"b\.txt"):
        text.decode(tmp_path / "b.txt")
    with pytest.raises(TypeError, match="not from int"):
        text.decode(3)
    (tmp_path / "c.txt").write_bytes(b"\xe9")
    with pytest.raises(BadSample, match=r"c\.txt: byte 0 is 0xe9"):
        text.decode(tmp_path / "c.txt")


@pytest.mark.parametrize("text", BOTH, ids=repr)
def test_rows(text):
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    rows = [text.eval(text.decode(s)) for s in ("a", "a blue cone", "word " * 1000, "x" * 99_000, "Ünïcödé 点 🎈")]
    for row in rows:
        assert row.shape == (12,)
        assert row.dtype == torch.int64
        assert row.min() >= 0
        assert row.max() < text.vocabulary
    values = text.collate(rows)
    assert values.shape == (5, 12)
    assert torch.equal(text.device(values), values)
    assert text.collate([]).shape == (0, 12)
    assert text.collate([]).dtype == torch.int64
    assert torch.equal(text.train("a blue cone", generator), rows[1])
    assert torch.equal(generator.get_state(), before)
    copy = pickle.loads(pickle.dumps(text))
    assert torch.equal(copy.eval("a blue cone"), rows[1])
    assert repr(copy) == repr(text)


def test_bytes_by_hand():
    text = Bytes(8)
    assert text.eval("Hi").tolist() == [1, 3 + ord("h"), 3 + ord("i"), 2, 0, 0, 0, 0]
    assert Bytes(8, lower=False).eval("Hi").tolist()[1] == 3 + ord("H")
    assert text.eval("abcdefgh").tolist() == [1, *(3 + b for b in b"abcdef"), 2]  # cut, and its end is kept
    assert text.eval("é").tolist()[:4] == [1, 3 + 0xC3, 3 + 0xA9, 2]
    assert text.vocabulary == 3 + 256


cleanings = ("lower", "canonicalize", "whitespace")
odd = [
    *("a_photo of", "&amp;", "&amp;lt;", "<start_of_text>", "<END_OF_TEXT>", "sÃ³", "â€™s", "'S", "'ſ", "I'LL", "it's"),
    *("Ünïcödé", "点", "🎈", "\n", "\r\n", "\t", "\0", "\x85", "\u2028", "_", "!!!", "123", "٣", "½", "ﬁ", "İ", "ß"),
    *(
        "&CounterClockwiseContourIntegral;",
        "&#x41;",
        "\u200b",
        "Ｆｕｌｌ",
        "“q”",
        "\x1b[31m",
        "aaaa",
        "ababab",
        "한국어",
    ),
]
longest = ["telecommunications " * 90, "antidisestablishment" * 30, "&amp;amp; " * 100, "x" * 500, ""]


def many_texts(count):
    """Texts of odd parts, of any characters, and of letters that repeat."""
    draw = random.Random(0)
    for i in range(count):
        if i % 3 == 0:
            yield draw.choice(["", " "]).join(draw.choices(odd, k=draw.randint(0, 30)))
        elif i % 3 == 1:
            tops = draw.choices([0x7F, 0x2FF, 0xD7FF, 0x10FFFF], k=draw.randint(0, 40))
            yield "".join(c for c in (chr(draw.randint(0, top)) for top in tops) if not "\ud800" <= c <= "\udfff")
        else:
            yield "".join(draw.choices("abeinstAS019_-.!<>#,'&\t ", k=draw.randint(1, 200)))


@pytest.fixture(scope="module")
def theirs():
    from open_clip.tokenizer import SimpleTokenizer

    return {clean: SimpleTokenizer(clean=clean) for clean in cleanings}


def compare(theirs, texts):
    ours = {clean: {context: Tokens(context, clean) for context in (8, 77)} for clean in cleanings}
    for text in texts:
        for clean, reference in theirs.items():
            for context, tokens in ours[clean].items():
                assert torch.equal(tokens.eval(text), reference(text, context_length=context)[0]), (clean, text)


def test_tokens_are_open_clips(theirs):
    texts = ["a small red metal torus", "A  photo &amp; of\na Café!!", "it's 42 ...", *odd, *longest]
    compare(theirs, [*texts, *many_texts(150)])
    assert Tokens().eval("word " * 500)[-1] == 49407
    assert Tokens().vocabulary == theirs["lower"].vocab_size == len(read_byte_pairs())


@pytest.mark.sweep  # half a minute
def test_tokens_are_open_clips_on_many_texts(theirs):
    compare(theirs, many_texts(20_000))


def test_a_long_text_is_reduced_in_training_alone():
    text, room = " ".join(f"{i % 10}" for i in range(60)), 14  # each digit is a token
    whole = Tokens(77).eval(text)[1:61].tolist()
    for reduction in ("simple", "random", "shuffle"):
        tokens = Tokens(16, reduction=reduction)
        assert torch.equal(tokens.eval(text), Tokens(16).eval(text))
        generator = torch.Generator().manual_seed(0)
        row = tokens.train(text, generator)
        again = tokens.train(text, torch.Generator().manual_seed(0))
        assert torch.equal(row, again)
        assert not torch.equal(row, tokens.train(text, generator))
        assert (row[0], row[-1]) == (49406, 49407)
        kept = row[1:-1].tolist()
        assert not Counter(kept) - Counter(whole)
        if reduction == "simple":
            assert any(kept == whole[i : i + room] for i in range(60 - room + 1))
        else:
            rest = iter(whole)
            assert all(x in rest for x in kept) == (reduction == "random")  # a subsequence, in its order
        assert torch.equal(tokens.train("a cone", generator), Tokens(16).eval("a cone"))


def test_choices_that_no_tokenizer_has():
    with pytest.raises(ValueError, match="clean='upper' is not known; it may be 'lower', 'canonicalize'"):
        Tokens(clean="upper")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="reduction='syntax' is not known; it may be 'cut', 'simple'"):
        Tokens(reduction="syntax")  # pyright: ignore[reportArgumentType]


def test_a_missing_vocabulary_is_said(monkeypatch):
    monkeypatch.setattr("align.preprocess.byte_pairs.FILE", "nosuch.gz")
    read_byte_pairs.cache_clear()
    with pytest.raises(OSError, match=r"open_clip_torch has no nosuch\.gz here; install it again"):
        Tokens().eval("a cone")


def test_a_context_has_room_for_a_token():
    for kind in (Tokens, Bytes):
        with pytest.raises(ValueError, match="context=2 is too small; it must be at least 3"):
            kind(2)


def npy(array: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def test_array_as_it_stands(tmp_path):
    rng = np.random.default_rng(0)
    stored = rng.normal(size=(2, 3)).astype(np.float32)
    array = Array((2, 3))
    np.save(tmp_path / "a.npy", np.asfortranarray(stored))
    for source in (npy(stored), tmp_path / "a.npy", str(tmp_path / "a.npy"), stored, torch.from_numpy(stored)):
        x = array.decode(source)
        assert torch.equal(x, torch.from_numpy(stored))
        assert torch.equal(array.eval(x), array.train(x, torch.Generator()))
    assert array.collate([array.decode(stored)] * 4).shape == (4, 2, 3)
    assert array.collate([]).shape == (0, 2, 3)
    assert array.decode(stored.astype(">f8")).dtype == torch.float32
    assert Array((2,), dtype="int64").decode(np.array([1, 2], np.uint8)).tolist() == [1, 2]
    assert Array((2,), dtype="uint8").collate([]).dtype == torch.uint8
    said = "Array(shape=(2, 3), dtype='float32', missing=False, mean=None, std=None)"
    assert repr(pickle.loads(pickle.dumps(array))) == said


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (b"", "array/empty"),
        (b"not an array", "array/not-npy"),
        (b"PK\x03\x04" + bytes(100), "array/not-npy"),
        (npy(np.zeros(2, np.float32))[:60], "array/not-npy"),
        (npy(np.zeros(2, np.float32))[:-1], "array/truncated"),
        (npy(np.array([None, {}]), allow_pickle=True), "array/dtype"),
        (npy(np.array(["a", "b"])), "array/dtype"),
        (npy(np.zeros(3, np.float32)), "array/shape"),
        (np.zeros((2, 1)), "array/shape"),
        (np.array(["a", "b"]), "array/dtype"),
        (np.array([1.0, np.nan]), "array/non-finite"),
        (np.array([1.0, 1e300]), "array/non-finite"),  # beyond float32
    ],
)
def test_array_reasons(source, reason):
    with pytest.raises(BadSample) as caught:
        Array((2,)).decode(source)
    assert caught.value.reason == reason


def test_array_refuses_what_it_would_change():
    for dtype, values in (("int64", [0.5, 1.0]), ("uint8", [1, 256]), ("uint8", [-1, 0])):
        with pytest.raises(BadSample, match="array/dtype"):
            Array((2,), dtype=dtype).decode(np.array(values))
    with pytest.raises(TypeError, match="not from list"):
        Array((2,)).decode([1.0, 2.0])
    with pytest.raises(ValueError, match="dtype='float' is not known"):
        Array((2,), dtype="float")  # pyright: ignore[reportArgumentType]


def test_a_lying_header_takes_no_memory():
    lying = npy(np.zeros((4, 3), np.float32)).replace(b"(4, 3)", b"(400000000000, 3)"[:6])
    assert b"(40000" in lying
    with pytest.raises(BadSample, match="array/"):
        Array((2,)).decode(lying)
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 3), }"
    data = b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little") + header + b"\n"
    with pytest.raises(BadSample, match="array/too-large"):
        Array((2,)).decode(data)
