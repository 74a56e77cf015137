"""Classes of mteb's tasks whose data are given, not loaded from the hub."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, final, get_args

from datasets import Dataset, Features, Image, Value
from mteb.abstasks import AbsTaskRetrieval, AbsTaskZeroShotClassification
from mteb.abstasks.task_metadata import TaskCategory, TaskMetadata
from pydantic import Field

from align.convert.harness.batches import KNOWN
from align.convert.harness.content import Content

LETTERS = {"text": "t", "image": "i", "audio": "a"}


@final
class ShardMetadata(TaskMetadata):
    """Metadata with the modalities of both sides, as mteb has no category for some: image and audio to text.

    asks, answers: those of the queries and of the documents that mteb has a form for.
    """

    asks: list[str] = Field(default_factory=list)
    answers: list[str] = Field(default_factory=list)

    def get_modalities(self, prompt_type: Any = None) -> Any:
        """Return the modalities of a side, or of both for None."""
        if prompt_type is None:
            return self.modalities
        return self.asks if str(getattr(prompt_type, "value", prompt_type)) == "query" else self.answers


@final
class ShardRetrieval(AbsTaskRetrieval):
    """A retrieval task of rows in memory.

    ours: mteb's name of a score -> the name in ``align evaluate``. notes: lines on how the two differ in these data.
    """

    def __init__(self, metadata: ShardMetadata, data: Mapping[str, Any], ours: Mapping[str, str], notes: Sequence[str]):
        self.metadata, self.ours, self.notes = metadata, dict(ours), list(notes)
        super().__init__()
        self.dataset = {"default": {"test": dict(data)}}  # pyright: ignore[reportAttributeAccessIssue]
        self.data_loaded = True


@final
class ShardZeroShot(AbsTaskZeroShotClassification):
    """A zero-shot classification task of rows in memory. ours, notes: as of ``ShardRetrieval``."""

    def __init__(
        self,
        metadata: ShardMetadata,
        rows: Dataset,
        column: str,
        candidates: Sequence[str],
        ours: Mapping[str, str],
        notes: Sequence[str],
    ):
        self.metadata, self.ours, self.notes = metadata, dict(ours), list(notes)
        self.input_column_name, self.candidates = column, list(candidates)
        super().__init__()
        self.dataset = {"default": {"test": rows}}  # pyright: ignore[reportAttributeAccessIssue]
        self.data_loaded = True

    def get_candidate_labels(self) -> list[str]:
        """Return the prompts of the classes."""
        return self.candidates


ShardTask = ShardRetrieval | ShardZeroShot


def describe_task(
    content: Content, name: str, kind: str, asks: Sequence[str], answers: Sequence[str], main_score: str
) -> ShardMetadata:
    """Return the metadata of a task. asks, answers: columns of its queries and documents."""
    sides = [[m for m in side if m in KNOWN] for side in (asks, answers)]
    both = [m for m in ("image", "audio", "text") if m in (*sides[0], *sides[1])]
    category = "2".join("".join(sorted(LETTERS[m] for m in side)) for side in sides)
    fits = category in get_args(TaskCategory) and len(asks) + len(answers) == len(sides[0]) + len(sides[1])
    more: dict[str, Any] = {"category": category if fits else None, "modalities": both, "type": kind}
    name = re.sub(r"[^\w.+-]+", "-", name)  # it becomes the name of a file
    return ShardMetadata(
        name=name,
        description=f"{' and '.join(asks)} to {' and '.join(answers)}, built from shards by align",
        dataset={"path": f"align/{name}", "revision": content.digest[:40]},
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score=main_score,
        asks=sides[0],
        answers=sides[1],
        **more,
    )


def make_dataset(columns: Mapping[str, Sequence[Any]]) -> Dataset:
    """Return a dataset of texts, encoded files and whole numbers. Files stay as they are stored until a model reads.

    Another model of mteb reads them decoded: ``dataset.cast_column("image", datasets.Image())``.
    """
    sound = {"bytes": Value("binary"), "path": Value("string")}  # datasets.Audio() needs torchcodec even to store
    kinds: dict[str, Any] = {"image": Image(decode=False), "audio": sound, "label": Value("int64")}
    kinds |= dict.fromkeys(("id", "text"), Value("string"))
    features = Features({name: kinds.get(name, Value("large_binary")) for name in columns})
    files = ("image", "audio")
    given = {
        name: [{"bytes": row, "path": None} for row in rows] if name in files else list(rows)
        for name, rows in columns.items()
    }
    return Dataset.from_dict(given, features=features)
