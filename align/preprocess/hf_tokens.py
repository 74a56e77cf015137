"""HFTokens: the token ids of any Hugging Face tokenizer, made by the library ``tokenizers`` alone."""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from align.extras import pip_install
from align.files.confined import check_confined
from align.preprocess.base import check_choice, stack
from align.preprocess.hf_tokenizer import Made, make_tokenizer
from align.preprocess.text import Text

CLEAN = ("none", "whitespace", "lower", "canonicalize")


class HFTokens(Text):
    """Token ids of a Hugging Face tokenizer, the same that transformers gives with ``padding="max_length"``.

    A row is (2, context) int64: the ids and the mask, 1 where a token is real. ``collate`` gives {"input_ids":
    (n, context), "attention_mask": (n, context)}.

    Args:
        tokenizer: a folder, ``owner/name`` or ``hf-hub:owner/name[@revision]``, read through transformers, or a JSON
            file of ``tokenizers`` that states its padding. A checkpoint carries the file.
        context: ids in a row. A longer text is cut.
        prefix: text before every text, such as "query: " or an instruction.
        lower: read the text in lower case. None takes the tokenizer's own.
        clean: open_clip's cleaning before the tokenizer: "whitespace" (repaired Unicode, HTML entities and single
            spaces), "lower" (lower case too), or "canonicalize" (no punctuation either, underscores as spaces).
        strip_sep: the separator token whose ids become 0, as open_clip does for some models. True takes the
            tokenizer's own.
        padding: the side of the padding. None takes the tokenizer's own.
        mask: mark padding by 0. False gives 1 everywhere, for a model that reads its padding, as published SigLIPs do.
            None takes the tokenizer's own.
        trim: leave out, on the device, the columns that are padding in every row. It is False for a model that pools
            at the end of the row, such as SigLIP.

    Raises ValueError for a file that is no tokenizer, and as ``make_tokenizer`` does.
    """

    def __init__(
        self,
        tokenizer: str,
        context: int,
        prefix: str = "",
        lower: bool | None = None,
        clean: Literal["none", "whitespace", "lower", "canonicalize"] = "none",
        strip_sep: bool | str | None = None,
        padding: Literal["left", "right"] | None = None,
        mask: bool | None = None,
        trim: bool = True,
    ):
        super().__init__(context)
        check_choice("clean", clean, CLEAN)
        check_choice("padding", padding, ("left", "right", None))  # pyright: ignore[reportArgumentType]
        self.tokenizer, self.prefix, self.clean, self.trim = tokenizer, prefix, clean, trim
        check_confined(tokenizer)
        if Path(tokenizer).is_file():
            made = Made(Path(tokenizer).read_text(encoding="utf-8"), False, None, True, None)
        else:
            made = make_tokenizer(tokenizer)
        self._json = made.json
        if strip_sep is True and made.separator is None:
            raise ValueError(f"strip_sep=True: the tokenizer {tokenizer} states no separator; name the token")
        self.lower = made.lower if lower is None else lower
        self.mask = made.mask if mask is None else mask
        self.strip_sep = (made.separator if strip_sep is True else strip_sep) or None
        self._backend = self._make(padding)
        self.padding = self._backend.padding["direction"]
        self.vocabulary = 1 + max(self._backend.get_vocab(with_added_tokens=True).values())
        self._separator = self._backend.token_to_id(self.strip_sep) if self.strip_sep else None

    def _make(self, padding: str | None) -> Any:
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise ImportError(f"HFTokens needs the package tokenizers; {pip_install('hf')}") from None
        try:
            made = Tokenizer.from_str(self._json)
        except Exception as error:  # tokenizers raises plain Exception
            raise ValueError(f"{self.tokenizer} is no tokenizer of the library tokenizers: {error}") from error
        if made.padding is None:
            raise ValueError(f"{self.tokenizer} states no padding; give the folder of its model, which does")
        side = (made.truncation or {}).get("direction", "right")
        made.enable_truncation(self.context, stride=0, strategy="longest_first", direction=side)
        stated = {key: made.padding[key] for key in ("direction", "pad_id", "pad_token")}
        made.enable_padding(**stated | ({"direction": padding} if padding else {}), length=self.context)
        return made

    def eval(self, x: str) -> Tensor:
        text = self.prefix + _clean(x, self.clean)
        found = self._backend.encode(text.lower() if self.lower else text)
        row = torch.tensor([found.ids, found.attention_mask])  # (2, context)
        if not self.mask:
            row[1] = 1
        if self._separator is not None:
            row[0][row[0] == self._separator] = 0
        return row

    def collate(self, rows: Sequence[Tensor]) -> dict[str, Tensor]:
        both = stack(rows, (2, self.context), torch.int64)
        return {"input_ids": both[:, 0].contiguous(), "attention_mask": both[:, 1].contiguous()}

    def device(self, values: dict[str, Tensor], generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Return the values without the columns that are padding in every row."""
        if not self.trim or torch.compiler.is_compiling() or not len(values["input_ids"]):
            return values  # a graph has no such number of its own
        longest = max(1, int(values["attention_mask"].sum(1).max()))
        kept = slice(values["input_ids"].shape[1] - longest, None) if self.padding == "left" else slice(longest)
        return {name: x[:, kept] for name, x in values.items()}

    def assets(self) -> dict[str, str]:
        return {"tokenizer": self._json}


def _clean(text: str, how: str) -> str:
    """Return a text as open_clip's cleaning of that name leaves it."""
    if how == "none":
        return text
    import html

    import ftfy

    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    if how == "canonicalize":
        text = text.replace("_", " ").translate(str.maketrans("", "", string.punctuation)).lower()
    text = " ".join(text.split())
    return text.lower() if how == "lower" else text
