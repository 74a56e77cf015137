"""A model as the embeddings of LlamaIndex (llama-index-core): texts and pictures in one space."""

from __future__ import annotations

from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding  # pyright: ignore[reportMissingImports]


class LlamaIndexEmbedding(BaseEmbedding):
    """The embeddings of one modality: ``LlamaIndexEmbedding(model=model)``.

    model: a JointModel. modality: of the inputs, text or any that has files.
    """

    model: Any
    modality: str = "text"

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self.model.embed(**{self.modality: texts})[self.modality].tolist()

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    _get_query_embedding = _get_text_embedding

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)
