"""Steps with a non-finite loss or gradient: all ranks leave them out alike, and no value of the run changes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from align.distributed import exchange
from align.optim.clipping import clip_gradients, measure_norm
from align.values import Batch, Embeddings


class Skip(Exception):
    """End of an optimiser's step before it changes anything. It is raised in the closure, after the gradients.

    norm: of all gradients, a 0-d tensor.
    """

    def __init__(self, norm: Tensor):
        super().__init__()
        self.norm = norm


@final
class Finite:
    """Check of each step between its gradients and its update.

    The norm of all gradients is not finite where one of them is not, so the check reads two numbers, the loss and that
    norm. A norm that only overflows its dtype is taken again in float64. The ranks agree in one exchange of a number.

    objective: the queues of its wrappers get their rows of before back, where a step is left out. model: running
    statistics of its normalisations do.

    `found` has, after a step that was left out, an entry for each rank, and is empty after all others.
    """

    def __init__(self, model: nn.Module, objective: nn.Module):
        self.objective = objective
        self._norms = [part for part in model.modules() if isinstance(part, _NormBase)]
        self.found: list[dict[str, Any]] = []
        self._batch: Batch | None = None
        self._embeddings: Mapping[str, tuple[Tensor, Tensor]] = {}
        self._queues: list[tuple[nn.Module, dict[str, Any]]] = []
        self._statistics: list[tuple[Tensor, Tensor]] = []

    def begin(self, batch: Batch) -> None:
        """Note a step's batch, and the buffers that its forward pass may change."""
        self._batch, self.found = batch, []
        self._queues = [(part, dict(part._buffers)) for part in self.objective.modules() if part._buffers]
        buffers = (x for part in self._norms if part.training for x in part._buffers.values())
        self._statistics = [(x, x.clone()) for x in buffers if x is not None]

    def note(self, embeddings: Embeddings) -> None:
        """Note the embeddings of the step, which tell the rows that a line names."""
        values: dict[str, Any] = {m: rows.values for m, rows in embeddings.items()}
        self._embeddings = {m: (x.detach(), embeddings[m].sample) for m, x in values.items()}

    def clip(self, module: Any, values: Mapping[str, Tensor], largest: float) -> Tensor:
        """Return the norm of all gradients, a 0-d tensor, and scale them down to norm ``largest`` at most.

        values: of the step, with the loss. Raises Skip on every rank where a loss or a gradient of any is not finite.
        """
        _unscale(module.trainer)
        named = [(name, p) for name, p in module.named_parameters() if p.grad is not None]
        parameters = [p for _, p in named]
        norm = measure_norm(p.grad for p in parameters)
        loss, size = torch.stack([values["loss"].double(), norm.detach().double()]).tolist()  # one wait for the device
        gradients = [] if math.isfinite(size) else _list_faulty((name, p.grad) for name, p in named)
        if not (math.isfinite(size) or gradients):
            norm = measure_norm((p.grad for p in parameters), torch.float64)
        line = {}
        if gradients or not math.isfinite(loss):
            line = self._describe(values, {"loss": repr(loss), "grad_norm": repr(size)}, gradients)
        news = exchange(json.dumps(line).encode() if line else b"")
        found = [{"rank": rank, **json.loads(said)} for rank, said in enumerate(news) if said]
        self.found = [each for each in found if each["modalities"]] or found  # one rank's rows spoil all ranks' losses
        if self.found:
            raise Skip(norm.detach())
        if math.isfinite(largest):
            clip_gradients(parameters, largest, norm)
        return norm.detach()

    def undo(self, trainer: Any) -> None:
        """Put the buffers of before the step back, and lower the scale of float16's gradients."""
        for part, buffers in self._queues:
            part._buffers.clear()
            part._buffers.update(buffers)
        with torch.no_grad():
            for x, before in self._statistics:
                x.copy_(before)
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        if scaler is not None:
            scaler.update()

    def end(self) -> None:
        """Let the values of the step go."""
        self._batch, self._embeddings, self._queues, self._statistics = None, {}, [], []

    def _describe(self, values: Mapping[str, Tensor], numbers: dict[str, Any], gradients: list[str]) -> dict[str, Any]:
        """Return this rank's entry: what is not finite, and the keys of its samples by modality.

        Where no row is to blame, ``keys`` has every sample of the rank's batch.
        """
        assert self._batch is not None  # set by begin
        ids, modalities = self._batch.ids, {}
        for modality, (rows, sample) in self._embeddings.items():
            faulty = ~rows.isfinite().flatten(1).all(1)
            if bool(faulty.any()):
                found = [ids[int(s)] if s >= 0 else "a hard negative" for s in sample[faulty].tolist()]
                modalities[modality] = list(dict.fromkeys(found))
        terms = [name for name, x in values.items() if name != "loss" and not bool(x.isfinite().all())]
        keys = {} if modalities else {"keys": list(ids)}
        return {**numbers, "values": terms, "gradients": gradients, "modalities": modalities, **keys}


def describe(found: Mapping[str, Any]) -> str:
    """Return one rank's entry in words: ``loss nan; audio of 0012 and 3 others``."""
    parts = [f"loss {found['loss']}"] if not math.isfinite(float(found["loss"])) else []
    for modality, keys in found["modalities"].items():
        more = f" and {len(keys) - 1} others" if len(keys) > 1 else ""
        parts.append(f"{modality} of {keys[0]}{more}")
    if not found["modalities"] and found["gradients"]:
        parts.append(f"gradient of {', '.join(found['gradients'])}")
    return "; ".join(parts) or f"gradient norm {found['grad_norm']}"


def _list_faulty(gradients: Iterable[tuple[str, Any]]) -> list[str]:
    """Return the parts whose gradients are not finite: ``image.encoder``, ``objective.TERM``."""
    found = (_name_part(name) for name, grad in gradients if not bool(_join(grad.isfinite().all())))
    return list(dict.fromkeys(found))


def _name_part(parameter: str) -> str:
    words = [word for word in parameter.split(".") if word not in ("model", "towers", "losses", "module", "_orig_mod")]
    return ".".join(words[:2])


def _join(x: Any) -> Tensor:
    """Return the value of a reduction on all ranks, where parameters are sharded."""
    return x.full_tensor() if hasattr(x, "full_tensor") else x


def _unscale(trainer: Any) -> None:
    """Divide the gradients by float16's scale, where the optimiser would do it later by itself (fused ones)."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    if scaler is None:
        return
    optimizer = trainer.optimizers[0]
    if scaler._per_optimizer_states[id(optimizer)]["stage"].name == "READY":
        scaler.unscale_(optimizer)
