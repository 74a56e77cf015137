"""Precision of a run: Lightning's plugins, with float32 where half precision loses what a run needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, final

import lightning as L
import torch
from lightning.pytorch.plugins import HalfPrecision, MixedPrecision
from torch import nn

_HOLD_THEIR_OWN = ("fsdp", "deepspeed", "xla")  # strategies with plugins of their own


@final
class Half(HalfPrecision):
    """Weights of the model in half precision, and everything beside it in float32.

    Losses and their temperatures stay float32: bfloat16's steps between 2 and 4 are 2^-6, so a log_scale of 2.66 would
    never move by 1e-3. Batches stay as they were read, because the front ends compute in float32: a waveform in
    bfloat16 has 8 bits. The tower casts their output to the dtype of its encoder.
    """

    def convert_module(self, module: nn.Module) -> nn.Module:
        for name, part in module.named_children():
            part.to(torch.float32 if name == "objective" else self._desired_input_dtype)
        return module

    def convert_input(self, data: Any) -> Any:
        return data


@final
class Scaled(MixedPrecision):
    """fp16 with scaled gradients (Micikevicius et al. 2018, arXiv:1710.03740, section 3.2), on a CPU too.

    Gradients are unscaled before they are clipped and measured, also those of a fused optimiser, which would unscale
    them inside of its step. So a step whose gradient overflows has a ``grad_norm`` that is not finite, the optimiser is
    not called, and the scale is halved.
    """

    def optimizer_step(self, optimizer: Any, model: Any, closure: Callable[[], Any], **kwargs: Any) -> Any:
        if getattr(optimizer, "_step_supports_amp_scaling", False):
            optimizer._step_supports_amp_scaling = False
        return super().optimizer_step(optimizer, model=model, closure=closure, **kwargs)


def choose_precision(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a trainer's options with a plugin of ours in place of its ``precision``, where we have one.

    Lightning would train "16-mixed" on a CPU in bfloat16, with a warning.
    """
    wanted, strategy = options.get("precision"), options.get("strategy")
    name = strategy if isinstance(strategy, str) else type(strategy).__name__.lower()
    if name.startswith(_HOLD_THEIR_OWN):
        return dict(options)
    if wanted in ("bf16-true", "16-true"):
        plugin: Any = Half(wanted)
    elif wanted in ("16-mixed", "16", 16):
        plugin = Scaled("16-mixed", _kind(options.get("accelerator")))
    else:
        return dict(options)
    given = options.get("plugins") or []
    rest = {key: value for key, value in options.items() if key != "precision"}
    return {**rest, "plugins": [*(given if isinstance(given, list) else [given]), plugin]}


def _kind(accelerator: Any) -> str:
    """Return the kind of the device that Lightning takes for an accelerator: "cuda", "mps" or "cpu"."""
    found = {"gpu": "cuda", "cuda": "cuda", "mps": "mps", "cpu": "cpu"}.get(accelerator)
    if found is None or accelerator == "gpu":
        found = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    return found


def read_scale(trainer: L.Trainer) -> dict[str, Any]:
    """Return {"precision": the state of the gradients' scale} for a checkpoint, {} where nothing is scaled."""
    state = trainer.precision_plugin.state_dict()
    return {"precision": state} if state else {}


def restore_scale(trainer: L.Trainer, state: Mapping[str, Any]) -> None:
    """Put the scale of a checkpoint's state back, where this run scales its gradients and that one did."""
    if state.get("precision") and trainer.precision_plugin.state_dict():
        trainer.precision_plugin.load_state_dict(state["precision"])
