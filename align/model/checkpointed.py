"""One encoder whose blocks keep no activations: the backward pass computes each block again (Chen et al. 2016)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def has_blocks(encoder: nn.Module) -> bool:
    """Return True where ``checkpoint_blocks`` finds something to do."""
    told = any(_can_be_told(module) for module in encoder.modules())
    return told or bool(getattr(encoder, "checkpointing", False)) or any(True for _ in find_blocks(encoder))


def checkpoint_blocks(encoder: nn.Module) -> Callable[[], None]:
    """Let the blocks of an encoder keep their inputs alone in training, and return the function that undoes it.

    A block is run a second time in the backward pass, with the same random draws and precision, so losses and gradients
    stay the same to the bit. Models of Hugging Face are told to do so themselves. In others a block is a part of the
    largest stacks: lists of two or more modules of one class. (Chen et al. 2016, arXiv:1604.06174, section 4.1.)
    """
    undone = [_tell(module) for module in encoder.modules() if _can_be_told(module)]
    if not undone:
        if getattr(encoder, "checkpointing", False):  # it does so by itself
            return lambda: None
        undone = [_wrap(block) for block in find_blocks(encoder)]

    def undo() -> None:
        for one in undone:
            one()

    return undo


def find_blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the members of all stacks of a module, the outermost ones: lists of two or more parts of one class.

    A member that holds a stack of its own, such as a stage of a Swin transformer, is left for the blocks in it.
    """
    for part in module.children():
        members = list(part.children()) if isinstance(part, nn.ModuleList | nn.Sequential) else []
        if len(members) > 1 and len({type(member) for member in members}) == 1 and _computes(members[0]):
            for member in members:
                inside = list(find_blocks(member))
                yield from inside or [member]
        else:
            yield from find_blocks(part)


def _computes(member: nn.Module) -> bool:
    """Return True for a part of several parts with weights. A single layer alone keeps about as much as its input."""
    return sum(1 for module in member.modules() if any(True for _ in module.parameters(recurse=False))) > 1


def _wrap(block: nn.Module) -> Callable[[], None]:
    # a partial, not a closure: copies of the model and its views in evaluation mode put their own block into it
    block.forward = functools.partial(_run, block.forward)

    def undo() -> None:
        del block.forward

    return undo


def _run(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return ``forward(*args, **kwargs)``, which keeps its arguments alone where there are gradients."""
    if not torch.is_grad_enabled() or torch.compiler.is_exporting():
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, context_fn=_same_default, **kwargs)


def _can_be_told(module: nn.Module) -> bool:
    return bool(getattr(module, "supports_gradient_checkpointing", False))


def _tell(model: Any) -> Callable[[], None]:
    if getattr(model, "is_gradient_checkpointing", False):  # by the encoder's own argument
        return lambda: None
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})  # the second is its name in early releases of transformers 5

    def undo() -> None:
        (getattr(model, "activation_checkpointing_disable", None) or model.gradient_checkpointing_disable)()

    return undo


def _same_default() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """Return the contexts of the two runs of a block. The backward pass is outside of bf16-true's default dtype."""
    return nullcontext(), _default(torch.get_default_dtype())


@contextmanager
def _default(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
