"""tokenizer.json of the library ``tokenizers``, for each of our text preprocesses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from align.extras import has_part, pip_install
from align.preprocess import Bytes, HFTokens, Tokens
from align.preprocess.byte_pairs import ENDINGS, LAST, MARKS, read_byte_pairs

WORDS = "|".join(("<start_of_text>", "<end_of_text>", ENDINGS, r"\p{L}+", r"\p{N}", r"[^\s\p{L}\p{N}]+"))
PUNCTUATION = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^`{|}~]"""

CASED, IGNORED = r"[\p{Lu}\p{Ll}\p{Lt}]", r"[\p{Mn}\p{Me}\p{Cf}\p{Lm}\p{Sk}'.:·‘’․]"
BEFORE = "|".join(CASED + IGNORED * n for n in range(4))  # a look back has no *
FINAL_SIGMA = f"(?<={BEFORE})Σ(?!{IGNORED}*{CASED})"
"""A capital sigma at the end of a word (the Unicode Standard, section 3.13, table 3-17)."""


def write_tokenizer(preprocess: Any, path: Path) -> bool:
    """Write the tokenizer of a text preprocess, with its marks, its cut and its padding. False for a class of others.

    ``Tokenizer.from_file(path).encode(text).ids`` is the row, after the steps that MODALITY.json names before it.
    """
    made = make_tokenizer(preprocess)
    if made is None:
        return False
    path.write_text(made.to_str(pretty=False), encoding="utf-8")
    return True


def make_tokenizer(preprocess: Any) -> Any:
    """Return the ``tokenizers.Tokenizer`` of a preprocess, None where it is none of ours."""
    if not has_part("tokenizers", "Tokenizer"):
        raise ImportError(f"tokenizer.json needs the package tokenizers; {pip_install('onnx')}")
    kind = type(preprocess)
    if kind is Tokens:
        return _clip(preprocess)
    if kind is Bytes:
        return _bytes(preprocess)
    return preprocess._backend if kind is HFTokens else None


def _clip(preprocess: Tokens) -> Any:
    """Return CLIP's byte pairs. Words are cut as ``align.preprocess.byte_pairs.read_words`` cuts them.

    A mark inside of a run of punctuation, as in "<<start_of_text>", is a mark here, and punctuation there.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    pairs = read_byte_pairs()
    merges: Any = [tuple(pair) for pair in pairs.ranks]
    model: Any = models.BPE(vocab=pairs.ids, merges=merges, end_of_word_suffix=LAST, continuing_subword_prefix="")
    made: Any = Tokenizer(model)
    clean: list[Any] = []
    if preprocess.clean == "canonicalize":
        clean += [normalizers.Replace("_", " "), normalizers.Replace(Regex(PUNCTUATION), "")]
    if preprocess.clean != "whitespace":
        clean += _lower()
    if clean:
        made.normalizer = normalizers.Sequence(clean)
    if preprocess.clean != "canonicalize":  # which takes the marks apart
        made.add_tokens([AddedToken(mark, normalized=True, special=False) for mark in MARKS])
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(f"(?i:{WORDS})"), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    start, end = MARKS
    made.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(start, pairs.start), (end, pairs.end)]
    )
    return _fit(made, preprocess.context, pad=next(iter(pairs.ids)))


def _bytes(preprocess: Bytes) -> Any:
    """Return the tokenizer of plain bytes: each byte + 3, between start (1) and end (2)."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    letters = read_byte_pairs().letters  # byte -> the printable letter that stands for it in ``tokenizers``
    vocabulary = {"<pad>": 0, "<start>": 1, "<end>": 2} | {letters[byte]: byte + 3 for byte in range(256)}
    made: Any = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    if preprocess.lower:
        made.normalizer = normalizers.Sequence(_lower())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", 2)]
    )
    return _fit(made, preprocess.context, pad="<pad>")


def _lower() -> list[Any]:
    """Return lower case as Python has it: a capital sigma at the end of a word becomes ς."""
    from tokenizers import Regex, normalizers

    return [normalizers.Replace(Regex(FINAL_SIGMA), "ς"), normalizers.Lowercase()]


def _fit(tokenizer: Any, context: int, pad: str) -> Any:
    tokenizer.enable_truncation(context)
    tokenizer.enable_padding(pad_id=0, pad_token=pad, length=context)
    return tokenizer
