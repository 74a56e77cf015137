"""Operators of torch in ONNX's, where torch's own exporter has none, or a slow one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch

from align.convert.graphs.fourier import has_tables, make_tables, write_frames, write_transform


def mend_program(program: torch.export.ExportedProgram) -> None:
    """Change a program where torch's exporter fails on it. Its numbers stay.

    ``divide`` becomes ``div``, to which the exporter gives numbers of one type. A ``reshape`` of an attention's turned
    result gets a copy before it: the exporter makes a view of it, for the strides of the attention's kernel, and then
    takes the attention apart into products that have others. A graph has no strides, and no copy there.
    """
    aten: Any = torch.ops.aten
    for part in program.graph_module.modules():
        nodes: list[Any] = list(part.graph.nodes) if isinstance(part, torch.fx.GraphModule) else []
        for node in nodes:
            if node.target == aten.divide.Tensor:
                node.target = aten.div.Tensor
            elif node.target == aten.reshape.default and _is_turned_attention(node.args[0]):
                with node.graph.inserting_before(node):
                    how = {"memory_format": torch.contiguous_format}
                    copied = node.graph.call_function(aten.clone.default, (node.args[0],), how)
                copied.meta = dict(node.args[0].meta)
                node.update_arg(0, copied)


def _is_turned_attention(node: Any) -> bool:
    aten: Any = torch.ops.aten
    return node.target == aten.transpose.int and node.args[0].target == aten.scaled_dot_product_attention.default


@cache
def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return operator of torch -> the function that writes it in ONNX's."""
    from onnxscript import opset20
    from onnxscript.function_libs.torch_lib.ops.core import aten_stft, aten_unfold
    from onnxscript.function_libs.torch_lib.ops.fft import aten__fft_r2c

    op: Any = opset20

    def sort(self: Any, stable: bool = True, dim: int = -1, descending: bool = False) -> Any:
        """Write ``aten.sort.stable``. TopK keeps the order of equals: the lower index comes first."""
        size = op.Gather(op.Shape(self), op.Constant(value_ints=[dim]))
        values, places = op.TopK(op.Cast(self, to=1), size, axis=dim, largest=int(descending), sorted=1)
        return op.CastLike(values, self), places

    def fft(self: Any, dim: Sequence[int], normalization: int, onesided: bool) -> Any:
        """Write ``aten._fft_r2c``, as ``rfft`` becomes, by products of matrices along the last axis.

        Transforms of other axes, of all frequencies, or of a size without tables stay ONNX's operator DFT.
        """
        rank, size = len(self.shape), self.shape[-1]
        if not onesided or [x % rank for x in dim] != [rank - 1] or not has_tables(size):
            return aten__fft_r2c(self, dim, normalization, onesided)
        scale = {0: 1.0, 1: size**-0.5, 2: 1 / size}[normalization]
        return write_transform(op, self, rank, make_tables(size, self.dtype.numpy(), scale))

    def stft(
        self: Any,
        n_fft: int,
        hop_length: int | None = None,
        win_length: int | None = None,
        window: Any = None,
        normalized: bool = False,
        onesided: bool | None = None,
        return_complex: bool | None = None,
        align_to_window: bool | None = None,
    ) -> Any:
        """Write ``aten.stft`` of (..., T) by frames and products of matrices: (..., n_fft // 2 + 1, frames, 2)."""
        rank, hop = len(self.shape), n_fft // 4 if hop_length is None else hop_length
        if win_length not in (None, n_fft) or onesided is False or align_to_window or not has_tables(n_fft):
            return aten_stft(self, n_fft, hop_length, win_length, window, normalized, onesided, return_complex)
        frames = write_frames(op, self, rank, n_fft, hop)
        frames = frames if window is None else op.Mul(frames, window)
        scale = n_fft**-0.5 if normalized else 1.0
        spectrum = write_transform(op, frames, rank + 1, make_tables(n_fft, self.dtype.numpy(), scale))
        return op.Transpose(spectrum, perm=[*range(rank - 1), rank, rank - 1, rank + 1])

    def unfold(self: Any, dimension: int, size: int, step: int) -> Any:
        """Write ``aten.unfold`` of the last axis by copies of blocks, as ``stft``'s frames."""
        rank = len(self.shape)
        if rank == 0 or dimension % rank != rank - 1:
            return aten_unfold(self, dimension, size, step)
        return write_frames(op, self, rank, size, step)

    return {
        torch.ops.aten.sort.stable: sort,
        torch.ops.aten._fft_r2c.default: fft,
        torch.ops.aten.stft.default: stft,
        torch.ops.aten.unfold.default: unfold,
    }
