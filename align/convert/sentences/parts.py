"""Parts of a Sentence Transformers folder: entries of modules.json, and a tokenizer as transformers saves it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from align.extras import pip_install
from align.preprocess import HFTokens


class Part(NamedTuple):
    """One module. kind: import path of its class. path: its folder in the model's, "" for the model's own."""

    kind: str
    path: str

    def make(self, folder: Path) -> Path:
        """Return the module's folder, made."""
        inside = folder / self.path
        inside.mkdir(parents=True, exist_ok=True)
        return inside

    def entry(self, place: int) -> dict[str, Any]:
        """Return the entry of modules.json."""
        return {"idx": place, "name": str(place), "path": self.path, "type": self.kind}


def make_tokenizer(tokens: HFTokens, side: str = "right", separator: str | None = None) -> Any:
    """Return transformers' tokenizer of a preprocess.

    side: of its padding, "right", where encoders have theirs, or "left". separator: its separator token.
    """
    try:
        from transformers import PreTrainedTokenizerFast
    except ImportError:
        raise ImportError(f"this export needs transformers; {pip_install('hf')}") from None
    from tokenizers import Tokenizer, normalizers

    made: Any = Tokenizer.from_str(tokens.assets()["tokenizer"])
    padding = made.padding["pad_token"]
    if "Metaspace" not in str(made.pre_tokenizer):  # which puts no mark before a text that was stripped
        strip = normalizers.Strip()  # align reads a text without the spaces around it
        made.normalizer = strip if made.normalizer is None else normalizers.Sequence([strip, made.normalizer])
    made.no_padding()
    made.no_truncation()
    special = {"pad_token": padding} | ({} if separator is None else {"sep_token": separator})
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=tokens.context, padding_side=side, **special)


def save_tokenizer(tokens: HFTokens, folder: Path) -> None:
    """Write the tokenizer of a preprocess as transformers reads it."""
    make_tokenizer(tokens).save_pretrained(folder)
