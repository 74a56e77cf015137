"""Prompted: a text encoder with learned vectors in front of every text."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn

from align.encoders.inside import Around, Changed, replace
from align.encoders.layered import find_blocks, replace_blocks
from align.values import Features


@final
class Prompted(Around):
    """A text encoder with learned context vectors behind the start mark of every text (CoOp, Zhou et al. 2022,
    arXiv:2109.01134, equation 2).

    The vectors stand in place of tokens' vectors and have positions of their own. A long text is cut by as many tokens,
    and keeps its end mark. With the rest of the model frozen, a class name finds its prompt from a few pictures a
    class. The regularisers of PromptSRC (Khattak et al. 2023, arXiv:2307.06948, section 3.2) are terms: ``Regress`` by
    "absolute" and ``Distill`` hold the rows near those of the frozen model, asked with many templates, and ``align soup
    --gaussian`` averages the checkpoints. ::

        text:
          encoder:
            class_path: align.encoders.Prompted
            init_args:
              encoder: {class_path: align.encoders.OpenClipText, init_args: {name: ViT-B-32, pretrained: openai}}
              ids: [320, 1125, 539, 320]  # "a photo of a"

    Args:
        encoder: a text encoder with a table of tokens: TransformerText, OpenClipText, HFText.
        length: number of vectors.
        ids: tokens whose vectors they begin as, which also give the number. None: random.
        at: place of the first one. 1 is behind the start mark.

    Raises ValueError for no vectors, for ids outside the table, and for an encoder without a table.
    """

    def __init__(self, encoder: nn.Module, length: int = 4, ids: Sequence[int] | None = None, at: int = 1):
        super().__init__(encoder)
        self.length, self.ids, self.at = length if ids is None else len(ids), ids, at
        if self.length < 1 or at < 0:
            raise ValueError(f"a prompt has one vector or more, from place 0 on; got length={self.length}, at={at}")
        self._name, table = _find_table(encoder)
        if ids is not None and not all(0 <= one < table.num_embeddings for one in ids):
            raise ValueError(f"ids={[*ids]} are tokens from 0 to {table.num_embeddings - 1}")
        drawn = torch.randn(self.length, table.embedding_dim) * 0.02
        self.prompt = nn.Parameter(drawn if ids is None else table.weight.detach()[torch.tensor(ids)].clone())

    def fit_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights of a plain encoder as this one takes them. Its tokens begin the prompt."""
        if weights.keys() != self.encoder.state_dict().keys():
            return weights
        table = weights[f"{self._name}.weight"]
        prompt = self.prompt.detach() if self.ids is None else table[torch.tensor(self.ids)].clone()
        return {**{f"encoder.{name}": x for name, x in weights.items()}, "prompt": prompt}

    def encode(self, values: Tensor | dict[str, Tensor]) -> Features:
        if isinstance(values, dict):
            mask = values["attention_mask"]
            moved = {**values, "input_ids": self._move(values["input_ids"], mask), "attention_mask": self._room(mask)}
        else:
            moved = self._move(values, values != 0)
        table = self.encoder.get_submodule(self._name)
        return replace(self.encoder, self._name, Changed(table, after=self._put))(moved)

    def _put(self, x: Tensor) -> Tensor:
        """Return the tokens' vectors (n, L, W) with the prompt in its place."""
        prompt = self.prompt.to(x.dtype).expand(x.shape[0], -1, -1)
        return torch.cat([x[:, : self.at], prompt, x[:, self.at + self.length :]], 1)

    def _room(self, ids: Tensor) -> Tensor:
        """Return (n, L) with room for the prompt, in which the row's first number stands."""
        end = ids.shape[1] - self.length
        return torch.cat([ids[:, : self.at], ids[:, :1].expand(-1, self.length), ids[:, self.at : end]], 1)

    def _move(self, ids: Tensor, real: Tensor) -> Tensor:
        """Return ids with room for the prompt. A row that is cut ends with its last real token."""
        if ids.shape[1] < self.at + self.length + 1:
            raise ValueError(f"a text of {ids.shape[1]} tokens has no room for {self.length} vectors from {self.at} on")
        place = torch.arange(ids.shape[1], device=ids.device)
        last = ids.gather(1, ((real != 0) * place).amax(1, keepdim=True))
        moved = self._room(ids)
        cut = (real[:, -self.length :] != 0).any(1, keepdim=True)
        return torch.cat([moved[:, :-1], torch.where(cut, last, moved[:, -1:])], 1)


def _find_table(encoder: nn.Module) -> tuple[str, nn.Embedding]:
    """Return the name and the table of an encoder's tokens: of its tables, the one with the most rows."""
    tables = [(name, module) for name, module in encoder.named_modules() if isinstance(module, nn.Embedding)]
    if not tables:
        raise ValueError(f"{type(encoder).__name__} has no table of tokens, so it reads no prompt")
    return max(tables, key=lambda one: one[1].num_embeddings)


@final
class PromptTokens(Around):
    """An encoder of blocks with learned tokens beside its input (VPT, Jia et al. 2022, arXiv:2203.12119, equations 4 to
    6; Prompt Switch, Deng et al. 2023, arXiv:2308.07648, has them for frames).

    The tokens are seen in the blocks alone. Those behind the last block are dropped, so grid and pooling do not change.

    Args:
        encoder: any whose blocks take tokens (n, L, W) without a mask: TimmImage, OpenClipImage, PointTransformer, ….
        length: number of tokens.
        layers: blocks that get tokens of their own, from the first one on.
        blocks: path of the list of blocks, as of ``Layered``.

    Raises ValueError for no tokens, for more layers than blocks, and where there is no list at the path.
    """

    def __init__(self, encoder: nn.Module, length: int = 4, layers: int = 1, blocks: str = "blocks"):
        super().__init__(encoder)
        self.length, self.layers, self.blocks = length, layers, blocks
        found = self._blocks()
        if length < 1 or not 1 <= layers <= len(found):
            raise ValueError(
                f"needs length >= 1 and from 1 to {len(found)} layers; got length={length}, layers={layers}"
            )
        norm = next((one for one in found[0].modules() if isinstance(one, nn.LayerNorm)), None)
        if norm is None:
            raise ValueError(f"the blocks of {type(encoder).__name__} have no LayerNorm, which tells their width")
        self.prompt = nn.Parameter(torch.randn(layers, length, norm.normalized_shape[-1]) * 0.02)

    def fit_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights of a plain encoder as this one takes them."""
        if weights.keys() != self.encoder.state_dict().keys():
            return weights
        return {**{f"encoder.{name}": x for name, x in weights.items()}, "prompt": self.prompt.detach()}

    def encode(self, values: Any) -> Features:
        blocks = self._blocks()
        for layer in range(self.layers):
            blocks[layer] = Changed(blocks[layer], before=partial(self._put, layer))
        blocks[-1] = Changed(blocks[-1], after=self._drop)
        return replace_blocks(self.encoder, self.blocks, blocks)(values)

    def _put(self, layer: int, x: Tensor) -> Tensor:
        """Return tokens with those of a layer behind them, in place of those of the layer before."""
        prompt = self.prompt[layer].to(x.dtype).expand(x.shape[0], -1, -1)
        return torch.cat([x if layer == 0 else self._drop(x), prompt], 1)

    def _drop(self, x: Tensor) -> Tensor:
        return x[:, : x.shape[1] - self.length]

    def _blocks(self) -> list[nn.Module]:
        return [*find_blocks(self.encoder, self.blocks)]
