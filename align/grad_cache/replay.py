"""A network in chunks: a forward pass without a graph, and a backward pass that runs each chunk a second time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from align.grad_cache.slices import cut, cut_like, join, leaf, spans
from align.grad_cache.state import Precision, RandomState, one_attention
from align.values import Values

Output = Tensor | tuple[Tensor, ...]

DRIFT = 0.05  # relative distance of two passes over a chunk: rounding stays far below it
WIDE, ROWS = 4, 256  # chunks, and rows at most, that the first pass reads at a time where nothing is drawn


def in_chunks(
    network: Callable[[Values], Output],
    values: Values,
    chunk: int,
    *,
    parameters: Iterable[Tensor] | None = None,
    generators: Sequence[torch.Generator] = (),
) -> Any:
    """Return ``network(values)``, computed ``chunk`` rows at a time, with the gradients of the whole.

    The first pass keeps the graph of the last chunk alone. The loss is computed one time over all rows. Its backward
    pass calls the network again chunk by chunk, with the random state of the first pass, and hands each parameter one
    sum of gradients (Gao et al. 2021, arXiv 2101.06983, section 3.2). So the memory is that of one chunk and of the
    outputs, and DDP sees one backward pass. Sums of half precision are taken in float32.

    A pass without a graph needs little memory, so the first one reads up to 4 chunks at a time, 256 rows at most, where
    the first chunk drew no random number. The values of the two passes may then differ in their last bits.

    Rows that one chunk holds are read as without chunks. A network without a parameter that trains is read one time.

    Args:
        network: values -> a tensor, or a tuple of tensors, n first. No row may depend on the other rows. It draws only
            from torch's own random state and from ``generators``, and keeps nothing from one call to the next.
        values: (n, ...), or a dict of such tensors, without gradient.
        chunk: rows at a time, at least 1.
        parameters: those that get gradients. Default: those of the network, which must then be a module.
        generators: random generators that the network draws from, beside torch's own.

    Raises ValueError for a chunk below 1, values that need a gradient, parameters that FSDP2 has sharded or that have
    hooks of ``Tensor.register_hook``, and TypeError for a network that is no module where no parameters are given. The
    backward pass raises RuntimeError where the second pass over a chunk gives other values, and where it is itself
    differentiated.
    """
    if chunk < 1:
        raise ValueError(f"chunk is a number of rows, at least 1; got {chunk}")
    if parameters is None:
        if not isinstance(network, nn.Module):
            raise TypeError(f"{type(network).__name__} is no module: give in_chunks its parameters=[...]")
        parameters = network.parameters()
    one = leaf(values)
    if len(one) <= chunk:
        return network(values)
    if any(x.requires_grad for x in (values.values() if isinstance(values, dict) else (values,))):
        raise ValueError("values in chunks get no gradient; detach them, or leave chunk out")
    live = list({id(p): p for p in parameters if p.requires_grad}.values())
    if not live or not torch.is_grad_enabled():
        return read_chunks(network, values, chunk)
    if any(type(p).__name__ == "DTensor" for p in live):
        raise ValueError("chunk and FSDP2 do not go together: a second pass would gather and free its shards; use DDP")
    if any(p._backward_hooks for p in live):
        raise ValueError("a hook of Tensor.register_hook sees each chunk; take register_post_accumulate_grad_hook")
    passes = _Passes(network, values, spans(len(one), chunk), RandomState(one.device, tuple(generators)))
    out = _Replay.apply(passes, *live)
    return out if passes.several else out[0]


def read_chunks(network: Callable[[Values], Output], values: Values, chunk: int) -> Output:
    """Return ``network(values)``, computed ``chunk`` rows at a time in one graph, where there is one."""
    parts = [network(cut(values, span)) for span in spans(len(leaf(values)), chunk)]
    several = isinstance(parts[0], tuple)
    out = join([part if isinstance(part, tuple) else (part,) for part in parts])
    return out if several else out[0]


class _Passes:
    """Both passes of a network over its chunks."""

    def __init__(self, network: Callable[[Values], Output], values: Values, spans: list[slice], random: RandomState):
        self._network, self._values, self._spans, self._random = network, values, spans, random
        self._precision = Precision(leaf(values).device)
        self._draws: list[tuple[Tensor, ...]] = []  # before each chunk
        self._last: tuple[Tensor, ...] | None = None  # outputs of the last chunk, with their graph
        self.several = False

    def forward(self) -> tuple[Tensor, ...]:
        """Return the outputs of all chunks. The last one keeps its graph, so that it is not read again."""
        *others, last = self._spans
        parts, draws = [], self._random.read()
        at, wide, most = 0, 1, max(1, min(WIDE, ROWS // others[0].stop))
        with one_attention():
            while at < len(others):
                taken = others[at : at + wide]
                part = self._call(slice(taken[0].start, taken[-1].stop))
                if (now := self._random.read(draws)) is draws:
                    wide = most
                else:
                    most = 1  # the replay draws for each chunk
                    if wide > 1:
                        self._random.write(draws)
                        wide = 1
                        continue
                parts.append(part)
                self._draws += [draws] * len(taken)
                at, draws = at + len(taken), now
        torch.clear_autocast_cache()  # the cached weights of a pass without a graph have no gradient
        self._draws.append(draws)
        with torch.enable_grad():
            self._last = self._call(last)
        self._first = parts[0][0]
        return join([*parts, [x.detach() for x in self._last]])

    def backward(self, parameters: Sequence[Tensor], grads: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Return the gradient of each parameter, None where no output depends on it."""
        sums = _Sums(parameters)
        (last, self._last), after = (self._last, None), self._random.read()
        try:
            for i in [len(self._spans) - 1, *range(len(self._spans) - 1)]:  # the last one first: its graph is there
                sums.add(last or self._again(i), [None if g is None else (g, self._spans[i]) for g in grads])
                last = None
        finally:
            self._random.write(after)
        return sums.take()

    def _again(self, i: int) -> tuple[Tensor, ...]:
        self._random.write(self._draws[i])
        with torch.enable_grad(), self._precision.restore():
            out = self._call(self._spans[i])
        if i == 0 and _distance(out[0].detach(), self._first) > DRIFT:
            raise RuntimeError(
                "the second pass over a chunk gave other values than the first: a network in chunks draws from torch's "
                "generators alone, and keeps nothing from one call to the next"
            )
        return out

    def _call(self, span: slice) -> tuple[Tensor, ...]:
        out = self._network(cut(self._values, span))
        self.several = isinstance(out, tuple)
        return out if isinstance(out, tuple) else (out,)


class _Sums:
    """Gradients of parameters, summed over the chunks."""

    def __init__(self, parameters: Sequence[Tensor]):
        self._parameters = parameters
        self._sums: list[Tensor | None] = [None] * len(parameters)
        self._fresh = [True] * len(parameters)  # the first gradient may be shared: it is not written into

    def add(self, outputs: Sequence[Tensor], grads: Sequence[tuple[Tensor, slice] | None]) -> None:
        """Add the gradients of a chunk: of its outputs, whose own stand in ``grads`` at the rows of a slice."""
        pairs = [(x, cut_like(*given, x)) for x, given in zip(outputs, grads, strict=True) if given and x.requires_grad]
        if not pairs:
            return
        xs, gs = zip(*pairs, strict=True)
        found = torch.autograd.grad(xs, self._parameters, gs, allow_unused=True)
        for i, grad in enumerate(found):
            before = self._sums[i]
            if grad is None:
                continue
            wide = grad.to(torch.promote_types(grad.dtype, torch.float32))
            if before is None:
                self._sums[i] = wide
            elif self._fresh[i]:
                self._sums[i], self._fresh[i] = before + wide, False
            else:
                before.add_(wide)

    def take(self) -> list[Tensor | None]:
        """Return the sums, in the precision of their parameters."""
        return [None if x is None else x.to(p.dtype) for x, p in zip(self._sums, self._parameters, strict=True)]


def _distance(x: Tensor, y: Tensor) -> float:
    """Return the relative distance of x from y. NaN where a number is not finite."""
    return float((x.double() - y.double()).norm() / y.double().norm().clamp(min=1e-30))


class _Replay(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, passes: _Passes, *parameters: Tensor) -> tuple[Tensor, ...]:
        ctx.passes = passes
        ctx.save_for_backward(*parameters)  # reading them again fails where they were changed since
        ctx.set_materialize_grads(False)
        out = passes.forward()
        ctx.mark_non_differentiable(*(x for x in out if not x.is_floating_point()))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return None, *ctx.passes.backward(ctx.saved_tensors, grads)
