"""Depth of each parameter in an encoder: before its blocks, in one of them, or after them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from torch import nn

AFTER = ("proj", "head", "scale", "bias")
"""Ends of the names of an encoder's direct parameters that it reads after its blocks, ``text_projection`` too."""


class Depths(NamedTuple):
    """Depths of an encoder's parameters. of: parameter -> 0 before the blocks, i in block i, L + 1 after. blocks: L."""

    blocks: int
    of: dict[str, int]


def read_depths(encoder: nn.Module) -> Depths:
    """Return the depths of an encoder's parameters, by their names in it. An encoder without blocks has L = 0.

    Blocks are the children of the largest stack: a list or sequence of two or more parts of one class. A block that is
    mostly such a stack itself, such as a stage of a Swin transformer, counts as the blocks in it. Parts that the
    encoder makes before the stack are before the blocks.
    """
    path = _find_stack(encoder)
    if path is None:
        return Depths(0, {name: 1 for name, _ in encoder.named_parameters()})
    blocks = list(_list_blocks(encoder, path))
    starts, before = [(name, i) for i, name in enumerate(blocks, 1)], True
    depths: dict[str, int] = {}
    for name, _ in encoder.named_parameters():
        inside = [i for start, i in starts if name.startswith(start + ".")]
        if inside:
            depths[name] = inside[-1]
        elif name.startswith(path + "."):  # of a stage, beside its blocks: with the next one
            stage = ".".join(name.split(".")[: path.count(".") + 2])
            depths[name] = next(i for start, i in starts if start.startswith(stage + "."))
        else:
            before = _is_before(encoder, name, path)
            depths[name] = 0 if before else len(blocks) + 1
    return Depths(len(blocks), depths)


def _is_before(encoder: nn.Module, name: str, path: str) -> bool:
    """Return True where the encoder makes a parameter's part before the part with the stack.

    The direct parameters of a part come before its children, so those that are used late are recognised by their names.
    """
    steps, stack = name.split("."), path.split(".")
    pairs = zip(steps, [*stack, ""], strict=False)  # a parameter may lie above the stack or below it
    shared = next(i for i, (a, b) in enumerate(pairs) if a != b)
    outer = encoder.get_submodule(".".join(steps[:shared]))
    children = [child for child, _ in outer.named_children()]
    if steps[shared] not in children:
        return not any(word in steps[shared] for word in AFTER)
    return children.index(steps[shared]) < children.index(stack[shared])


def _find_stack(module: nn.Module) -> str | None:
    """Return the path of the stack with most parameters, the outermost of equals, or None."""
    sizes = {path: _count(part) for path, part in module.named_modules() if path and _is_stack(part)}
    return max(sizes, key=lambda path: (sizes[path], -len(path))) if sizes else None


def _is_stack(part: nn.Module) -> bool:
    children = list(part.children())
    same = len(children) > 1 and len({type(child) for child in children}) == 1
    return same and isinstance(part, nn.ModuleList | nn.Sequential) and _count(children[0]) > 0


def _list_blocks(encoder: nn.Module, path: str) -> Iterator[str]:
    for name, block in encoder.get_submodule(path).named_children():
        inner = _find_stack(block)
        if inner is not None and _count(block.get_submodule(inner)) > _count(block) / 2:
            yield from _list_blocks(encoder, f"{path}.{name}.{inner}")
        else:
            yield f"{path}.{name}"


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
