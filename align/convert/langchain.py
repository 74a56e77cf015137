"""A model as the embeddings of LangChain (langchain-core)."""

from __future__ import annotations

from langchain_core.embeddings import Embeddings  # pyright: ignore[reportMissingImports]

from align.model import JointModel


class LangChainEmbeddings(Embeddings):
    """The embeddings of one modality. model: a JointModel. modality: of the inputs, text or any that has files."""

    def __init__(self, model: JointModel, modality: str = "text"):
        self.model, self.modality = model, modality

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return self.model.embed(**{self.modality: texts})[self.modality].tolist()  # pyright: ignore[reportArgumentType]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]
