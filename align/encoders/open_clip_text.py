"""OpenClipText: the text part of an open_clip model."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from align.encoders import open_clip_model
from align.encoders.base import Encoder
from align.values import Features


@final
class OpenClipText(Encoder):
    """An open_clip text tower: (n, context) ids of ``align.preprocess.Tokens`` -> its text features.

    They are those after the model's projection, as are the tokens, which come with their mask.

    pretrained: a tag, or the path of a file in open_clip's layout. None gives random weights. It is None again once the
        weights are in.

    Raises ValueError for a name, a tag or a file that does not fit, and for a model whose text part is not open_clip's
    transformer. Raises OSError where weights cannot be fetched.
    """

    def __init__(self, name: str, pretrained: str | None = None):
        super().__init__()
        from open_clip.transformer import TextTransformer

        self.text = open_clip_model.create(name, pretrained).text
        if not isinstance(self.text, TextTransformer):
            raise ValueError(f"the text part of {name} is no transformer of open_clip: {type(self.text).__name__}")
        self.text.output_tokens = True
        self.name, self.pretrained = name, None
        self.vocabulary, self.context = self.text.vocab_size, self.text.context_length
        self.width = open_clip_model.width(name)

    def encode(self, values: Tensor) -> Features:
        pooled, tokens = self.text(values)
        project = self.text.text_projection
        if project is not None:
            tokens = project(tokens) if isinstance(project, torch.nn.Linear) else tokens @ project
        mask = values[:, : tokens.shape[1]] != self.text.pad_id
        return Features(pooled, tokens, mask)
