"""HFVisionLanguage: a vision-language decoder of transformers as one tower of pictures and texts (VLM2Vec)."""

from __future__ import annotations

from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from align.encoders.base import Encoder
from align.encoders.hf import model as hf_model
from align.encoders.text_pooling import last_token, pack
from align.values import Features

KINDS = {"llava": "LlavaModel"}
"""model_type -> class. They read pictures of one size, a fixed number of tokens each."""


@final
class HFVisionLanguage(Encoder):
    """A decoder that reads pictures among its tokens; the last token is the row (VLM2Vec, Jiang et al. 2024, arXiv
    2410.05160, section 3.1).

    It reads the rows of ``align.preprocess.Interleaved``: an instruction, then texts and pictures in their order, and
    texts alone of ``HFTokens``. Every query and every candidate may be a picture, a text or both, so towers of several
    modalities share one encoder (``model.share``), each with its instruction. Attention is causal, and padding stands
    behind the row. Models of LLaVA 1.5's kind are read. Others cut a picture into tiles of its size, which a row of one
    shape has no place for.

    Args:
        name, pretrained, checkpointing, config: as ``HFText`` takes them.

    Raises ValueError for a model of another type and for files that do not fit, FileNotFoundError for a source that is
    not there, ImportError where transformers is absent.
    """

    def __init__(
        self,
        name: str,
        pretrained: bool | str = False,
        checkpointing: bool = False,
        config: dict[str, Any] | None = None,
    ):
        super().__init__()
        found = None if config is not None else hf_model.find(name)
        made = hf_model.make_config((config or {}) if found is None else found.config)
        if made.model_type not in KINDS:
            raise ValueError(
                f"{name} is of the model_type {made.model_type!r}; interleaved parts are read by {', '.join(KINDS)}"
            )
        made.text_config.use_cache = False
        self.name, self.pretrained, self.config = name, False, hf_model.plain_config(made)
        self.checkpointing = checkpointing
        kind, weights = KINDS[made.model_type], hf_model.find_weights_of(name, pretrained, found)
        if weights is None:
            self.model = hf_model.create(kind, made)
        else:
            path = weights.weights()
            tensors = {name: x for name, x in hf_model.read_part(path, [""]).items() if "lm_head." not in name}
            self.model = hf_model.load(kind, made, tensors, str(path))
            self.origin = weights.origin()
        if checkpointing:
            hf_model.checkpoint_gradients(self.model)
        _freeze_unread(self.model, made)
        self.width = int(made.text_config.hidden_size)
        self.vocabulary_limit = int(self.model.get_input_embeddings().num_embeddings)
        self.context_limit = int(made.text_config.max_position_embeddings)
        vision = made.vision_config
        self.size = int(vision.image_size)
        whole = getattr(made, "vision_feature_select_strategy", "default") == "full"
        self.places = (self.size // int(vision.patch_size)) ** 2 + int(whole)
        self.mark_id = int(made.image_token_id)
        self._wants = None if found is None else self._describe(found)

    def _describe(self, found: hf_model.Found) -> dict[str, Any]:
        context = min(self.context_limit, 2 * self.places + 512)
        init_args = {"tokenizer": found.tokenizer(), "context": context, "size": self.size, "places": self.places}
        return {"class_path": "align.preprocess.Interleaved", "init_args": init_args}

    def wants(self) -> dict[str, Any] | None:
        return self._wants

    def also_wants(self) -> list[dict[str, Any]]:
        """Return the tokens of texts alone."""
        if self._wants is None:
            return []
        init_args = {name: self._wants["init_args"][name] for name in ("tokenizer", "context")}
        return [{"class_path": "align.preprocess.HFTokens", "init_args": init_args}]

    def encode(self, values: dict[str, Tensor]) -> Features:
        ids, mask = pack(values["input_ids"], values["attention_mask"])
        marks = ((ids == self.mark_id) & mask).sum(1)  # (n,)
        if bool((marks % self.places != 0).any()):
            raise ValueError(f"a picture has {self.places} tokens of the id {self.mark_id}; a row has {marks.tolist()}")
        pixels = values.get("pixels")
        if pixels is None:  # texts alone, of `HFTokens`
            dtype = self.model.get_input_embeddings().weight.dtype
            pixels = torch.zeros(len(ids), 1, 3, self.size, self.size, dtype=dtype, device=ids.device)
        there = torch.arange(pixels.shape[1], device=ids.device) < (marks // self.places)[:, None]  # (n, pictures)
        shown = pixels[there]
        length = int(mask.sum(1).max())  # columns of padding in every row change nothing
        ids, mask = ids[:, :length], mask[:, :length]
        x = self.model(input_ids=ids, attention_mask=mask.long(), pixel_values=shown if len(shown) else None)[0]
        if not len(shown):  # so that the gradient of the vision tower is zero, not None
            blank = self.model.get_image_features(pixel_values=pixels[:1, 0])
            x = x + 0 * _sum(blank)
        x = x * mask[..., None]
        short = values["input_ids"].shape[1] - length  # as many tokens as the values have, whatever the other rows are
        return Features(last_token(x, mask), F.pad(x, (0, 0, 0, short)), F.pad(mask, (0, short)))


def _freeze_unread(model: Any, config: Any) -> None:
    """Freeze the vision tower's last layers, whose output the decoder does not read."""
    layers = config.vision_feature_layer
    depth = int(config.vision_config.num_hidden_layers)
    read = max(k if k >= 0 else depth + 1 + k for k in ([layers] if isinstance(layers, int) else layers))
    for name, parameter in model.vision_tower.named_parameters():
        number = name.partition("encoder.layers.")[2].partition(".")[0]
        if "post_layernorm" in name or (number and int(number) >= read):
            parameter.requires_grad_(False)


def _sum(value: Any) -> Tensor:
    """Return the sum of a tensor, of a list of tensors, or of an output's pooled features."""
    pooled = getattr(value, "pooler_output", value)
    return pooled.sum() if isinstance(pooled, Tensor) else torch.stack([x.sum() for x in pooled]).sum()
