"""An index on disk: a folder of embeddings, and an entry for each embedded sample.

index.json               {"schema": 1, "align": version, "model": sha256, "dim": D, "modalities": {name: rows},
                          "samples": N, "sha256": {file: checksum}}
items.jsonl              a line a sample: {"key": ..., "shard": ..., "caption": [...], "label": ...}
MODALITY.safetensors     values (n, D) float32, sample (n,) int64 in ascending order: lines of items.jsonl
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from torch import Tensor

from align.encoders.weights import read_tensors
from align.files import read_json, sha256
from align.scoring import How, choose, score
from align.search.query import Hit, find_best
from align.values import Rows, TermInfo

schema = 1


@final
class Index:
    """An opened index. A modality's file is read, and its checksum compared, when it is first asked for."""

    def __init__(self, folder: Path, about: dict[str, Any]):
        self.folder = folder
        self.about = about
        self._rows: dict[str, Rows] = {}
        self._items: list[dict[str, Any]] | None = None

    @classmethod
    def open(cls, folder: str | Path, *, model: str | None = None) -> Index:
        """Open an index folder. With `model`, a model's fingerprint, an index of another model is refused.

        Raises FileNotFoundError where there is none, ValueError where it is damaged, newer than this align, or of
        another model.
        """
        folder = Path(folder)
        if not (folder / "index.json").is_file():
            raise FileNotFoundError(
                f"no index in {folder}; make one with: align embed MODEL SHARDS --out {shlex.quote(str(folder))}"
            )
        about = read_json(folder / "index.json")
        if not isinstance(about, dict) or not isinstance(about.get("schema"), int) or "modalities" not in about:
            raise ValueError(f"{folder / 'index.json'} is no header of an index")
        if about["schema"] > schema:
            raise ValueError(f"{folder} has schema {about['schema']}; this align reads up to {schema}: upgrade align")
        if model is not None and about["model"] != model:
            raise ValueError(
                f"{folder} was made by another model ({about['model'][:12]}, this one is {model[:12]}); "
                f"make it anew with: align embed MODEL SHARDS --out {shlex.quote(str(folder))}"
            )
        return cls(folder, about)

    @property
    def modalities(self) -> dict[str, int]:
        """Modality -> rows."""
        return self.about["modalities"]

    @property
    def items(self) -> list[dict[str, Any]]:
        """The entry of each sample: key, shard, caption (a list of lines) and label."""
        if self._items is None:
            lines = self._check_file("items.jsonl").read_text(encoding="utf-8").splitlines()
            self._items = [json.loads(line) for line in lines]
        return self._items

    def rows(self, modality: str) -> Rows:
        """Return the embeddings of a modality, in the order of their samples."""
        if modality not in self.modalities:
            raise ValueError(f"the index has no {modality!r}; it has {', '.join(self.modalities) or 'nothing'}")
        if modality not in self._rows:
            stored = read_tensors(self._check_file(f"{modality}.safetensors"))
            self._rows[modality] = Rows(stored["values"], stored["sample"])
        return self._rows[modality]

    def query(
        self,
        query: Mapping[str, Tensor],
        of: str,
        k: int = 10,
        how: How | None = None,
        *,
        terms: Sequence[TermInfo] = (),
    ) -> list[list[Hit]]:
        """Return the k best samples by their rows of modality `of`, for each of q queries, best first.

        Args:
            query: {modality: (q, D)}: several modalities are one composed query, see ``align.score``.
            how, terms: see ``align.score``. None: as ``align.scoring.choose`` says.
        """
        how = how or choose(terms, query, of)
        rows = self.rows(of)
        scores, samples = find_best(query, rows, of=of, k=k, how=how, terms=terms)
        found = []
        for i, (best, numbers) in enumerate(zip(scores.tolist(), samples.tolist(), strict=True)):
            parts = {m: x[i : i + 1] for m, x in query.items()}
            hits = []
            for rank, (value, sample) in enumerate(zip(best, numbers, strict=True), 1):
                candidates = rows.values[rows.sample == sample]  # pyright: ignore[reportArgumentType]
                row = candidates[score(parts, candidates, how, of=of, terms=terms).argmax(dim=1)]  # (1, D)
                cosines = {m: float(score({m: x}, row)) for m, x in parts.items()}
                hits.append(Hit(rank, value, sample, self.items[sample], cosines))
            found.append(hits)
        return found

    def _check_file(self, name: str) -> Path:
        path = self.folder / name
        if not path.is_file():
            raise FileNotFoundError(f"{self.folder} lacks {name}; make the index anew with: align embed MODEL SHARDS")
        if self.about["sha256"].get(name) != sha256(path):
            raise ValueError(f"{path} is damaged: its SHA-256 is not the one in index.json; make the index anew")
        return path
