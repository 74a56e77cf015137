"""The convolutions of PE-AV's codec (DAC; Kumar et al. 2023), blind to the padding behind a sound."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor, nn


@final
class Codec(nn.Module):
    """transformers' embedder of PE-AV, with its parts and names, and silence for padding in every layer.

    A convolution pads with zeros at the end of a row. In the library, padding inside a row is no longer zero after the
    first layer, because of biases. Here it is made zero before each convolution, so that a short sound in a long row
    has the frames that it has alone. Gradients flow, which the library forbids. Freeze the codec to train as it does.
    """

    def __init__(self, embedder: Any):
        super().__init__()
        self.dac_encoder, self.bottleneck = embedder.dac_encoder, embedder.bottleneck
        self.data_proj, self.config = embedder.data_proj, embedder.config

    def forward(self, input_values: Tensor, padding_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return (n, L, W) frames and their (n, L) mask of waves (n, 1, T) and their (n, T) mask.

        T and the length of every sound are multiples of the codec's hop.
        """
        dac: Any = self.dac_encoder
        real = padding_mask[:, None].to(input_values.dtype)  # (n, 1, T)
        x = dac.conv1(input_values * real)
        for block, stride in zip(dac.block, self.config.dac_config.downsampling_ratios, strict=True):
            for unit in (block.res_unit1, block.res_unit2, block.res_unit3):
                x = x + unit.conv2(unit.snake2(unit.conv1(unit.snake1(x) * real)))
            x = block.conv1(block.snake1(x) * real)
            real = real[..., ::stride]
        x = dac.conv2(dac.snake1(x) * real)
        frames = self.data_proj(self.bottleneck(x).mT)
        return frames, padding_mask[:, :: self.config.dac_config.hop_length]
