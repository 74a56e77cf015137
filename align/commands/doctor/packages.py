"""The packages that align needs, and those that its extras bring: their versions, and whether they import."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, NamedTuple

from align.commands.doctor.probe import Answer, Probe

if TYPE_CHECKING:
    from packaging.requirements import Requirement

PARTS: Mapping[str, tuple[str, str]] = {  # package -> the module and the attribute of it that we use
    "torch": ("torch", "Tensor"),
    "torchvision": ("torchvision.ops", "nms"),
    "torchaudio": ("torchaudio.functional", "resample"),
    "open_clip_torch": ("open_clip", "create_model"),
    "ftfy": ("ftfy", "fix_text"),
    "regex": ("regex", "compile"),
    "timm": ("timm", "create_model"),
    "webdataset": ("webdataset", "WebDataset"),
    "braceexpand": ("braceexpand", "braceexpand"),
    "lightning": ("lightning.pytorch", "Trainer"),
    "tensorboard": ("tensorboard", "__version__"),
    "jsonargparse": ("jsonargparse", "ArgumentParser"),
    "safetensors": ("safetensors.torch", "save_file"),
    "huggingface_hub": ("huggingface_hub", "hf_hub_download"),
    "urllib3": ("urllib3", "PoolManager"),
    "numpy": ("numpy", "ndarray"),
    "packaging": ("packaging.requirements", "Requirement"),
    "pillow": ("PIL.Image", "open"),
    "simplejpeg": ("simplejpeg", "decode_jpeg"),
    "soundfile": ("soundfile", "SoundFile"),
    "trimesh": ("trimesh", "Trimesh"),
    "scipy": ("scipy.spatial", "cKDTree"),
    "pyyaml": ("yaml", "safe_load"),
    "rich": ("rich.table", "Table"),
    "jinja2": ("jinja2", "Environment"),
    "editables": ("editables", "EditableProject"),
    "pyarrow": ("pyarrow.parquet", "write_table"),
    "h5py": ("h5py", "File"),
    "fsspec": ("fsspec", "open"),
    "transformers": ("transformers", "AutoModel"),
    "tokenizers": ("tokenizers", "Tokenizer"),
    "sentencepiece": ("sentencepiece", "SentencePieceProcessor"),
    "protobuf": ("google.protobuf.message", "Message"),
    "av": ("av", "open"),
    "torchao": ("torchao.optim", "AdamW8bit"),
    "peft": ("peft", "LoraConfig"),
    "wandb": ("wandb", "init"),
    "mlflow-skinny": ("mlflow.tracking", "MlflowClient"),
    "sqlalchemy": ("sqlalchemy", "create_engine"),
    "alembic": ("alembic.config", "Config"),
    "ray": ("ray", "init"),
    "optuna": ("optuna", "create_study"),
    "faiss-cpu": ("faiss", "IndexFlatIP"),
    "pymilvus": ("pymilvus", "MilvusClient"),
    "qdrant-client": ("qdrant_client", "QdrantClient"),
    "onnx": ("onnx", "load"),
    "onnxscript": ("onnxscript", "script"),
    "onnxruntime": ("onnxruntime", "InferenceSession"),
    "sentence-transformers": ("sentence_transformers", "SentenceTransformer"),
    "mteb": ("mteb", "evaluate"),
    "starlette": ("starlette.applications", "Starlette"),
    "uvicorn": ("uvicorn", "Server"),
    "python-multipart": ("python_multipart", "MultipartParser"),
    "matplotlib": ("matplotlib", "__version__"),
    "ipykernel": ("ipykernel", "__version__"),
}
DENIED = {  # package -> versions that are never used, and the reason
    "lightning": ("==2.6.2,==2.6.3", "these releases were malicious: remove it and change your credentials"),
    "torch": ("<2.10", "a crafted file of weights damages its memory (CVE-2026-24747)"),
    "pillow": ("<12.2", "a crafted picture fills its memory (CVE-2026-40192)"),
}
FOR_US = ("test",)  # extras of those who work on align itself


class Package(NamedTuple):
    """A package and its state: "ok", "missing", "broken", "denied", or "outside" for an unsupported version."""

    name: str
    version: str
    supported: str
    state: str
    problem: str
    requirement: str


def read_requirements() -> tuple[str, dict[str, list[Requirement]]]:
    """Return the range of Python, and extra -> requirements, "" for those of everyone.

    They come from the checkout's project file where there is one: an editable install's metadata may be older.
    """
    from packaging.requirements import Requirement

    from align.extras import DISTRIBUTION, checkout

    root = checkout()
    if root is not None:
        import tomllib

        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        listed = {"": project["dependencies"], **project["optional-dependencies"]}
        found = {extra: [Requirement(text) for text in texts] for extra, texts in listed.items()}
        python = project["requires-python"]
    else:
        found: dict[str, list[Requirement]] = {"": []}
        for text in metadata.requires(DISTRIBUTION) or []:
            requirement = Requirement(text)
            extra = re.search(r"extra == ['\"](.+?)['\"]", str(requirement.marker or ""))
            found.setdefault(extra[1] if extra else "", []).append(requirement)
        python = metadata.metadata(DISTRIBUTION)["Requires-Python"]
    return python, {extra: needs for extra, needs in found.items() if extra not in FOR_US}


def probe_packages(needs: Mapping[str, Sequence[Requirement]]) -> dict[str, Probe]:
    """Return name -> the probe that imports the part of it that we use. Extras come after the required ones."""
    names = dict.fromkeys(need.name for listed in needs.values() for need in listed)
    found = {name: PARTS.get(name, (name.replace("-", "_"), "__name__")) for name in names}
    return {name: Probe("align.commands.doctor.probe:import_attribute", part) for name, part in found.items()}


def judge(need: Requirement, answer: Answer) -> Package:
    """Return the state of a package. answer: from its probe."""
    supported, asked = str(need.specifier), _without_marker(need)
    version = _version_of(need.name) or ("" if answer.error else str(answer.value))
    if not version:
        return Package(need.name, "", supported, "missing", f"{need.name} is missing", asked)
    denied, reason = DENIED.get(need.name, ("", ""))
    if any(_holds(version, part) for part in denied.split(",") if part):
        problem = f"{need.name} {version} is never to be used: {reason}"
        return Package(need.name, version, supported, "denied", problem, asked)
    if answer.error:
        beside = f" beside torch {_version_of('torch')}" if need.name in ("torchvision", "torchaudio") else ""
        problem = f"{need.name} {version} does not import{beside}: {answer.error}"
        return Package(need.name, version, supported, "broken", problem, asked)
    if not _holds(version, supported):
        problem = f"{need.name} {version} is outside of the supported {supported}"
        return Package(need.name, version, supported, "outside", problem, asked)
    return Package(need.name, version, supported, "ok", "", asked)


def judge_python(supported: str) -> Package:
    """Return the state of Python itself."""
    version = platform.python_version()
    fits = _holds(version, supported)
    problem = "" if fits else f"Python {version} is outside of the supported {supported}"
    return Package("Python", version, supported, "ok" if fits else "outside", problem, f"Python {supported}")


def _version_of(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _holds(version: str, specifier: str) -> bool:
    from packaging.specifiers import SpecifierSet
    from packaging.version import InvalidVersion

    try:
        return SpecifierSet(specifier).contains(version, prereleases=True)
    except InvalidVersion:
        return False


def _without_marker(need: Requirement) -> str:
    extras = f"[{','.join(sorted(need.extras))}]" if need.extras else ""
    return f"{need.name}{extras}{need.specifier}"
