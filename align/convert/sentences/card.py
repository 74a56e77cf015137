"""The card of an exported Sentence Transformers folder, README.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from align.model import JointModel
from align.model.origin import describe_parts

TRUST = """
Sentence Transformers 6 imports a class of another package with `trust_remote_code=True` alone. This folder names
`align.convert.sentences.module.AlignTowers`, so align has to be installed too.
"""


def write_card(
    model: JointModel, folder: Path, name: str, native: bool, sizes: Sequence[int], parts: Mapping[str, dict[str, Any]]
) -> None:
    """Write README.md: how the folder is loaded, what it reads, and the origin and licence of published weights."""
    trust = "" if native else ", trust_remote_code=True"
    lines = ["---", "library_name: sentence-transformers", "pipeline_tag: sentence-similarity", "---", f"# {name}", ""]
    lines += [f"A model of align in {model.dim} dimensions. It reads {', '.join(model.modalities)}.", ""]
    lines += ["```python", "from sentence_transformers import SentenceTransformer", ""]
    lines += [f'model = SentenceTransformer("{name}"{trust})', 'embeddings = model.encode(["a dog", "a cat"])']
    lines += ["print(model.similarity(embeddings, embeddings))", "```"]
    if not native:
        lines += [*TRUST.splitlines(), ""]
        lines += ["An input of any modality is a dict: `model.encode([{MODALITY: input}])`.", ""]
    if sizes:
        lines += ["", f"Matryoshka: `truncate_dim` may be {', '.join(map(str, sizes))}."]
    lines += ["", 'The folder is a model folder of align too: `align.load("' + name + '")`.']
    if parts:
        lines += ["", "Published weights:", "", *(f"- {line}" for line in describe_parts(parts))]
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
