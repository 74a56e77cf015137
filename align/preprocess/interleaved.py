"""Interleaved: pictures and texts in one row, in their order, after an instruction."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from align.media.picture import PICTURE
from align.preprocess.base import Preprocess, check_at_least, stack
from align.preprocess.hf_tokens import HFTokens
from align.preprocess.image import Image
from align.values import BadSample


class Interleaved(Preprocess):
    """Pictures and texts of one row for ``align.encoders.HFVisionLanguage``, as VLM2Vec has them: instruction, parts.

    A source is a list of parts in their order, each a text or anything that ``Image`` reads, or one part alone. A str
    is a text, so a picture's path is a ``Path``. In a shard it is a picture, or JSON: a list of {"text": ...} and
    {"image": BASE64}. Parts are joined by line ends, and each picture has ``places`` tokens of the id of ``mark``.

    A row is (bytes,) uint8: ids, mask and pixels end to end. ``collate`` gives {"input_ids": (n, context),
    "attention_mask": (n, context), "pixels": (n, pictures, 3, size, size)}; unused pictures are zero.

    Args:
        tokenizer: as ``HFTokens`` takes it. context: ids in a row. A text behind the last picture is cut.
        size: pixels a side. preset: as ``Image`` has it.
        places: tokens of a picture. pictures: the most in a row.
        instruction: the text before the parts, such as "Represent the given image."
        mark: the tokenizer's token for a picture.

    decode raises BadSample for a row of no part, of too many pictures, of a picture that does not fit into the context,
    for a text that holds the mark, and as ``Image`` does.
    """

    suffixes: ClassVar[tuple[str, ...]] = (*PICTURE.suffixes, "json")
    medium = PICTURE

    def __init__(
        self,
        tokenizer: str,
        context: int,
        size: int,
        places: int,
        pictures: int = 1,
        instruction: str = "",
        mark: str = "<image>",
        preset: str = "clip-hf",
    ):
        for name, value in (("places", places), ("pictures", pictures)):
            check_at_least(name, value, 1)
        self.tokenizer, self.context, self.size, self.places = tokenizer, context, size, places
        self.pictures, self.instruction, self.mark, self.preset = pictures, instruction, mark, preset
        self._text = HFTokens(tokenizer, context, padding="right", trim=False)
        self._image = Image(size, preset=preset, crop_scale=(1.0, 1.0))
        self.vocabulary = self._text.vocabulary
        self._backend = self._text._backend  # without cut and padding, as a picture's mark is many tokens
        self._pad = int(self._backend.padding["pad_id"])
        self._backend.no_truncation()
        self._backend.no_padding()
        mark_id = self._backend.token_to_id(mark)
        if mark_id is None:
            raise ValueError(f"the tokenizer {tokenizer} has no token {mark!r} for a picture; name its own: mark=...")
        self.mark_id = int(mark_id)

    def decode(self, source: Any) -> Tensor:
        parts = _list_parts(source)
        if not parts:
            raise BadSample("interleaved/empty", "a row has a text or a picture")
        texts = [self.instruction] if self.instruction else []
        pixels = []
        for part in parts:
            if isinstance(part, str):
                if self.mark in part:
                    raise BadSample("interleaved/mark", f"a text holds {self.mark}, which stands for a picture")
                texts.append(part)
            else:
                pixels.append(self._image.eval(self._image.decode(part)))
                texts.append(self.mark)
        if len(pixels) > self.pictures:
            raise BadSample("interleaved/pictures", f"{len(pixels)} in a row, the preprocess takes {self.pictures}")
        ids = self._read_ids("\n".join(texts), len(pixels))
        row = torch.full((2, self.context), 0)
        row[0] = self._pad
        row[0, : len(ids)], row[1, : len(ids)] = torch.tensor(ids), 1
        every = torch.zeros(self.pictures, 3, self.size, self.size, dtype=torch.uint8)
        for i, picture in enumerate(pixels):
            every[i] = picture
        return torch.cat([row.flatten().view(torch.uint8), every.flatten()])

    def _read_ids(self, text: str, pictures: int) -> list[int]:
        """Return the ids of a text, with ``places`` ids for each mark, cut to the context."""
        ids: list[int] = []
        for i in self._backend.encode(text).ids:
            ids += [i] * (self.places if i == self.mark_id else 1)
        if ids[: self.context].count(self.mark_id) != pictures * self.places:
            raise BadSample(
                "interleaved/too-long", f"{pictures} pictures of {self.places} tokens do not fit into {self.context}"
            )
        return ids[: self.context]

    def train(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return x

    def eval(self, x: Tensor) -> Tensor:
        return x

    def collate(self, rows: Sequence[Tensor]) -> dict[str, Tensor]:
        head = 2 * self.context * 8
        shape = (self.pictures, 3, self.size, self.size)
        both = stack(rows, (head + self.pictures * 3 * self.size**2,), torch.uint8)
        ids, mask = both[:, :head].contiguous().view(torch.int64).unflatten(1, (2, self.context)).unbind(1)
        pixels = both[:, head:].unflatten(1, shape)
        return {"input_ids": ids.contiguous(), "attention_mask": mask.contiguous(), "pixels": pixels}

    def device(self, values: dict[str, Tensor], generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Return the values with normalised pixels."""
        pixels = values["pixels"]
        normal = self._image.device(pixels.flatten(0, 1)).unflatten(0, (len(pixels), self.pictures))
        return {**values, "pixels": normal}

    def assets(self) -> dict[str, str]:
        return self._text.assets()


def _list_parts(source: Any) -> list[Any]:
    """Return texts, and pictures as ``Image`` reads them."""
    if isinstance(source, bytes) and source[:1] == b"[":
        try:
            read = json.loads(source)
            return [x["text"] if "text" in x else base64.b64decode(x["image"], validate=True) for x in read]
        except (ValueError, KeyError, TypeError, binascii.Error) as error:
            raise BadSample("interleaved/json", f"a list of {{'text': ...}} and {{'image': BASE64}}; {error}") from None
    return list(source) if isinstance(source, (list, tuple)) else [source]
