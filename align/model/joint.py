"""JointModel: one tower a modality, all into one space."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Self, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align.encoders.follower import Lead
from align.encoders.last_attention import Attention
from align.model.dense import only_one, read_dense
from align.model.embed import as_list, collate
from align.model.eval_view import EvalReader
from align.model.follow import collate_parts, lead, link
from align.model.naming import naming
from align.model.place import move
from align.model.row_labels import add_labels
from align.model.shared import check_encoder, lend
from align.model.tied import tie, untie
from align.model.tower import Tower
from align.preprocess.base import Preprocess
from align.values import Batch, Embeddings, Rows, TermInfo, Values


@final
class JointModel(nn.Module):
    """Towers of all modalities, one each, into one space of ``dim`` dimensions.

    share: {video: image} gives the tower ``video`` the encoder of ``image``. tied: {text.head.table: image.head.table}
    gives a part of a tower the module of another, see ``align.model.tied``. normalize: embeddings are unit vectors.
    ``terms`` holds the trained terms of the objective, which scoring reads. ``rates`` holds factors of the learning
    rate by parameter (``model.towers.image.head.project.weight``), which `align.optim.Optim` reads.
    ``compatible_with`` holds the SHA-256 of earlier models, with the number of first coordinates that can be compared
    with their embeddings.

    Raises ValueError for a modality's name with other characters than letters, digits and underscores, for a tower
    without an encoder, for two towers with one encoder that ``share`` does not name, and as ``tie`` does.
    """

    def __init__(
        self,
        towers: dict[str, Tower],
        dim: int,
        share: dict[str, str] | None = None,
        normalize: bool = True,
        tied: dict[str, str] | None = None,
    ):
        super().__init__()
        if not towers:
            raise ValueError("a model needs at least one tower")
        if dim < 1:
            raise ValueError(f"dim must be at least 1, not {dim}")
        self.towers: Any = nn.ModuleDict()  # name -> Tower, which pyright cannot be told of a ModuleDict
        self.dim = dim
        self.share = share
        self.normalize = normalize
        self.tied = tied
        self.terms: list[TermInfo] = []
        self.rates: dict[str, float] = {}
        self.compatible_with: dict[str, int] = {}
        for name, tower in towers.items():
            _check_name(name)
            self.towers[name] = tower
            untie(tower)
        lend(self.towers, share or {})
        self.follows = link(towers, dim)  # tower -> the tower whose tokens it reads
        owners: dict[int, str] = {}
        for name, tower in towers.items():
            with naming(f"tower {name!r}"):
                check_encoder(name, tower, share or {}, owners)
                tower.build(dim)
        tie(self.towers, tied or {})

    def train(self, mode: bool = True) -> Self:
        """Set the mode. Frozen parts, those with an attribute ``keeps_eval``, stay in evaluation mode."""
        super().train(mode)
        for module in self.modules():
            if vars(module).get("keeps_eval"):
                module.eval()
        return self

    @property
    def modalities(self) -> list[str]:
        return list(self.towers)

    @property
    def preprocess(self) -> dict[str, Preprocess]:
        """Modality -> its preprocess, for a data loader."""
        return {name: tower.preprocess for name, tower in self.towers.items()}

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def forward(
        self,
        batch: Batch,
        *,
        generators: Mapping[str, torch.Generator] | None = None,
        tokens: Sequence[str] = (),
        run: Callable[..., Any] | None = None,
    ) -> Embeddings:
        """Run every tower, on n = 0 rows where the batch has none. So no gradient is None, here or on another rank.

        generators: one for each modality, for the augmentation on the device. tokens: modalities whose rows get tokens.
        run: a function that runs a tower, from its name, the tower, values, generator, and True for tokens.
        ``align.grad_cache.Chunks`` runs it a few rows at a time. Raises ValueError, with the tower's name, for an
        encoder that gives no tokens, and for one without a grid of tokens that another tower reads.
        """
        rows: dict[str, Rows] = {}
        leads: dict[str, Lead] = {}
        for name in sorted(self.towers, key=self.follows.__contains__):  # towers that others read come first
            tower = self.towers[name]
            given = batch.get(name) or self._no_rows(name)
            call = tower if run is None else functools.partial(run, name, tower)
            draws = (generators or {}).get(name)
            if name in self.follows:
                with naming(f"tower {name!r}"):
                    given, call = tower.encoder.follow(given, leads[self.follows[name]], draws), tower
            with naming(f"tower {name!r}"):
                values = add_labels(tower.head, given, batch.labels)
            if name in tokens or name in self.follows.values():
                with naming(f"tower {name!r}"):
                    pooled, each, mask = call(values, generator=draws, tokens=True)
                    if name in self.follows.values():
                        leads[name] = lead(tower, name, given, each, functools.partial(call, generator=draws))
                if name not in tokens:
                    rows[name] = Rows(self._unit(pooled), given.sample, part=given.part)
                    continue
                rows[name] = Rows(self._unit(pooled), given.sample, self._unit(each), mask, part=given.part)
            else:
                rows[name] = Rows(self._unit(call(values, generator=draws)), given.sample, part=given.part)
        return Embeddings(**{f.name: getattr(batch, f.name) for f in fields(batch) if f.name != "rows"}, rows=rows)

    def _no_rows(self, name: str) -> Rows:
        """Return n = 0 rows of a modality, as its preprocess collates them."""
        values = self._on_device(self.towers[name].preprocess.collate([]))
        return Rows(values, torch.zeros(0, dtype=torch.long, device=self.device))

    def _on_device(self, values: Values) -> Values:
        if isinstance(values, dict):
            return {name: move(x, self.device) for name, x in values.items()}
        return move(values, self.device)

    def _unit(self, x: Tensor) -> Tensor:
        """Return unit vectors (..., D). Zero stays zero.

        They are float32 at least, so that losses and rankings do not inherit bfloat16's steps.
        """
        x = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        return F.normalize(x, dim=-1, eps=1e-6) if self.normalize else x

    @torch.no_grad()
    def embed(self, /, batch_size: int = 64, **inputs: Sequence[Any]) -> dict[str, Tensor]:
        """Return {modality: (n, D)} for lists of raw inputs, row i for input i.

        ``model.embed(image=["a.png", ...], text=["a cat", ...])``: an input is a path, bytes, a PIL image, an array, a
        string, or anything else that the modality's preprocess decodes. A region is ``{"image": PICTURE, "box": [left,
        top, right, bottom]}``. The model is read in evaluation mode, without
        gradients. Its own mode does not change, so several threads may embed while one trains.

        Raises ValueError for a modality without a tower, TypeError for one input where a list belongs, and BadSample
        or FileNotFoundError with the name of a bad input.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        lists = {name: as_list(name, given, self.modalities) for name, given in inputs.items()}
        reader, out = EvalReader(self), {}
        for name, given in lists.items():
            rows = []
            if name in self.follows:
                for piece in collate_parts(self.towers, name, self.follows[name], given, batch_size):
                    placed = piece.to(self.device)
                    rows.append(reader.read(lambda model, name=name, x=placed: model(x)[name].values))
                out[name] = torch.cat(rows)
                continue
            for piece in collate(name, given, self.towers[name].preprocess, batch_size):
                values = self._on_device(piece)
                rows.append(reader.read(lambda model, name=name, x=values: model.towers[name](x)))
            out[name] = self._unit(torch.cat(rows))
        return out

    @torch.no_grad()
    def dense(self, /, attention: Attention = "plain", batch_size: int = 16, **inputs: Sequence[Any]) -> Tensor:
        """Return the vectors of the places inside of raw inputs of one modality, row i for input i.

        ``model.dense(image=["a.png", ...])`` is (n, H, W, D) over the grid of the encoder's tokens. A sound has such a
        map of its spectrogram. ``model.dense(points=[...])`` is (n, P, D), a vector for each point that the tower
        reads (``Points.order`` names them). Inputs, mode and gradients are as in ``embed``.

        attention: "plain", or "value" or "self", which change the last block of a vision transformer without training
        (``align.encoders.last_attention``).

        Raises TypeError for two modalities, ValueError for an encoder without tokens or whose tokens have no places,
        and for an attention that it does not have. For inputs it raises as ``embed`` does.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        name, given = only_one(inputs)
        listed = as_list(name, given, self.modalities)
        pieces = collate(name, listed, self.towers[name].preprocess, batch_size)
        return torch.cat([self.dense_values(name, piece, attention) for piece in pieces])

    @torch.no_grad()
    def dense_values(self, modality: str, values: Values, attention: Attention = "plain") -> Tensor:
        """Return (n, H, W, D) or (n, P, D) for rows that the preprocess has read and collated, as ``dense`` does."""
        x = self._on_device(values)
        with naming(f"tower {modality!r}"):
            return self._unit(EvalReader(self).read(lambda model: read_dense(model.towers[modality], x, attention)))

    @torch.no_grad()
    def embed_values(self, modality: str, values: Values) -> Tensor:
        """Return (n, D) for n rows that the modality's preprocess has read and collated, as ``embed`` does."""
        x = self._on_device(values)
        return self._unit(EvalReader(self).read(lambda model: model.towers[modality](x)))


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_]+", name):
        raise ValueError(f"a modality's name is made of letters, digits and underscores; {name!r} is not")
    if name == "batch_size" or hasattr(nn.ModuleDict(), name):
        raise ValueError(f"a modality cannot be named {name!r}, which torch or embed() has a use for; call it a_{name}")
