"""Tokenizers of Hugging Face models as one JSON text, made by transformers from the files of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from align.extras import pip_install
from align.files.hub import source_folder

FILES = ("*.json", "*.txt", "*.model", "*.spm")
"""Patterns of the files that tokenizers are made of."""
PUNCTUATION = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]"""
SPACES = r"[\s\x1c-\x1f]+"


class Made(NamedTuple):
    """A tokenizer's JSON, and its settings that the JSON cannot hold.

    lower: it reads lower case. separator: its separator token. mask: its model is given the mask of the padding.
    max_length: most tokens of a text, None where it states no limit.
    """

    json: str
    lower: bool
    separator: str | None
    mask: bool
    max_length: int | None


def make_tokenizer(source: str) -> Made:
    """Return the tokenizer of a source, as transformers makes it, with its truncation and padding in the JSON.

    source: a folder, ``local-dir:FOLDER``, ``owner/name`` or ``hf-hub:owner/name[@revision]``.

    Raises FileNotFoundError where there is no such source, ValueError where it holds no tokenizer that the library
    ``tokenizers`` can run, ImportError where transformers is absent.
    """
    folder = source_folder(source, FILES)
    whole = _load(folder)
    tokenizer = _backend(whole, folder)
    pad = whole.pad_token if whole.pad_token is not None else whole.eos_token  # a decoder may have none: the mask tells
    if pad is None:
        raise ValueError(f"the tokenizer of {source} has no padding token and no end token to pad with")
    length = 512  # a placeholder: HFTokens sets its own
    tokenizer.enable_truncation(length, stride=0, strategy="longest_first", direction=whole.truncation_side)
    tokenizer.enable_padding(
        direction=whole.padding_side, pad_id=whole.convert_tokens_to_ids(pad), pad_token=str(pad), length=length
    )
    lower = _is_siglip(whole) and bool(whole.do_lower_case)
    separator = None if whole.sep_token is None else str(whole.sep_token)
    most = whole.model_max_length
    most = None if most is None or most > 1e9 else int(most)  # transformers' very large number says "no limit"
    return Made(tokenizer.to_str(), lower, separator, "attention_mask" in whole.model_input_names, most)


def _load(folder: Path) -> Any:
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise ImportError(f"the tokenizer of {folder} needs transformers; {pip_install('hf')}") from None
    try:
        whole = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # of many kinds, and many lines long
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{folder} holds no tokenizer that transformers reads: {reason}") from error
    names = {"tokenizer.json", *whole.vocab_files_names.values()}
    if not any((folder / name).is_file() for name in names):  # transformers then makes one without words
        raise ValueError(f"{folder} holds no tokenizer that transformers reads: none of {', '.join(sorted(names))}")
    return whole


def _backend(whole: Any, folder: Path) -> Any:
    """Return a ``tokenizers.Tokenizer`` that is the caller's own."""
    from tokenizers import Tokenizer

    if _is_siglip(whole):
        return _siglip(whole)
    if not hasattr(whole, "backend_tokenizer"):
        raise ValueError(
            f"the tokenizer of {folder}, {type(whole).__name__}, runs in Python alone; only those with a tokenizer.json"
            " and SigLIP's are read"
        )
    return Tokenizer.from_str(whole.backend_tokenizer.to_str())


def _is_siglip(whole: Any) -> bool:
    return type(whole).__name__ == "SiglipTokenizer"


def _siglip(whole: Any) -> Any:
    """Return SigLIP's SentencePiece tokenizer with its cleaning (punctuation and repeated spaces) as a normalizer.

    The cleaning follows big_vision's ``canonicalize``. Lower case stays outside: Python's differs at a final sigma.
    """
    from tokenizers import Regex, normalizers
    from transformers.convert_slow_tokenizer import T5Converter

    class Converter(T5Converter):
        def vocab(self, proto: Any) -> list[tuple[str, float]]:
            return [(piece.piece, piece.score) for piece in proto.pieces]

    tokenizer: Any = Converter(whole).converted()
    tokenizer.add_special_tokens(list(whole.added_tokens_decoder.values()))  # with the spaces that each takes along
    clean = [normalizers.Replace(Regex(PUNCTUATION), ""), normalizers.Replace(Regex(SPACES), " ")]
    tokenizer.normalizer = normalizers.Sequence([*clean, tokenizer.normalizer])
    return tokenizer
