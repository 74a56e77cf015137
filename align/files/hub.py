"""Files of models on the Hugging Face hub, through its client and its cache. Without a network only the cache is asked.

``HF_HUB_OFFLINE``, ``HF_HOME``, ``HF_ENDPOINT`` and ``HF_TOKEN`` mean here what they mean to the client.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TypeVar

from align.files.confined import check_confined, is_confined
from align.files.http import Status, stat

T = TypeVar("T")
PREFIX, LOCAL = "hf-hub:", "local-dir:"
MODEL_FILES = ("*.json", "*.safetensors", "vocab*", "merges*", "*.model", "*.md")
"""Patterns of the files of a model that are read. Pickled weights are not among them."""
CARD = "README.md"


def split_revision(name: str) -> tuple[str, str | None]:
    """Return the repository and the revision of ``owner/name@revision``, None where none is named.

    >>> split_revision("hf-hub:owner/name@v2")
    ('owner/name', 'v2')
    """
    repository, _, revision = name.removeprefix(PREFIX).partition("@")
    return repository, revision or None


def is_repository(name: str) -> bool:
    """Return True for a text that has the form ``owner/name``, with ``hf-hub:`` before it or not.

    >>> is_repository("owner/name"), is_repository("./name"), is_repository("a/b/c")
    (True, False, False)
    """
    parts = split_revision(name)[0].split("/")
    return len(parts) == 2 and all(parts) and not parts[0].startswith((".", "~")) and "\\" not in name


def expand_home(source: str) -> str:
    """Return a source with the home folder for ``~``, which a shell leaves as it is after a colon or an at sign.

    >>> expand_home("ViT-B-32@weights~1.pt")
    'ViT-B-32@weights~1.pt'
    """
    before, at, path = source.rpartition("@") if "@~" in source else ("", "", source)
    return f"{before}{at}{os.path.expanduser(path)}"


def hub_file(name: str, file: str) -> Path:
    """Return the path of one file of ``owner/name[@revision]``, downloaded at its first use and continued if cut.

    Raises FileNotFoundError in one line where the repository or the file does not exist or cannot be reached.
    """
    check_confined(name)
    from huggingface_hub import hf_hub_download

    repository, revision = split_revision(name)
    with _explain(repository, file):
        return _ask(lambda local: Path(hf_hub_download(repository, file, revision=revision, local_files_only=local)))


def hub_folder(name: str, patterns: Sequence[str] = MODEL_FILES) -> Path:
    """Return the folder with the files of ``owner/name[@revision]`` that match a pattern. Raises as ``hub_file``."""
    check_confined(name)
    from huggingface_hub import snapshot_download

    repository, revision = split_revision(name)
    allow = [*patterns, CARD]
    with _explain(repository):
        return _ask(
            lambda local: Path(
                snapshot_download(repository, revision=revision, allow_patterns=allow, local_files_only=local)
            )
        )


def model_folder(source: str, patterns: Sequence[str] = MODEL_FILES) -> Path | None:
    """Return the folder that a source names: a folder here, ``local-dir:FOLDER`` or ``hf-hub:owner/name``.

    None where the source has another form. Raises FileNotFoundError for a folder or a repository that is not there.
    """
    if source.startswith(PREFIX):
        return hub_folder(source, patterns)
    path = Path(source.removeprefix(LOCAL))
    if source.startswith(LOCAL):
        check_confined(path)
    if path.is_dir() and not is_confined():  # a saved model's name may be that of a folder here
        return path
    if source.startswith(LOCAL):
        raise FileNotFoundError(f"no folder {path}")
    return None


def source_folder(source: str, patterns: Sequence[str] = MODEL_FILES) -> Path:
    """Return the folder of a source: as ``model_folder`` takes it, ``owner/name[@revision]`` too, or a file in it.

    Raises FileNotFoundError in one line where there is none.
    """
    check_confined(source)
    folder = model_folder(source, patterns)
    if folder is not None:
        return folder
    if Path(source).is_file():
        return Path(source).parent
    if is_repository(source):
        return hub_folder(source, patterns)
    raise FileNotFoundError(f"no file or folder {source}, and no name on the hub, which has the form owner/name")


def licence_of(folder: Path) -> str:
    """Return the licence that a model card (README.md) states in its header, "unstated" where it states none."""
    import re

    try:
        text = (folder / CARD).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return "unstated"
    header = text.split("---")[1] if text.startswith("---") and text.count("---") > 1 else ""
    stated = {
        key: value.strip().strip("'\"") for key, value in re.findall(r"^(license(?:_name)?):[ \t]*(.+)$", header, re.M)
    }
    licence = stated.get("license", "unstated")
    return stated.get("license_name", licence) if licence == "other" else licence


def _ask(fetch: Callable[[bool], T]) -> T:
    """Return ``fetch(local)``, from the cache alone where the hub cannot be reached."""
    return fetch(not _reachable(os.environ.get("HF_ENDPOINT", "https://huggingface.co")))


@cache
def _reachable(endpoint: str) -> bool:
    """Return True where the hub answers. The client itself tries for a minute before it gives up."""
    from huggingface_hub.constants import is_offline_mode

    if is_offline_mode():
        return False
    try:
        stat(endpoint, timeout=5)
    except Status:
        return True
    except OSError:
        return False
    return True


@contextmanager
def _explain(repository: str, file: str = "") -> Iterator[None]:
    """Turn the client's errors, which have many lines, into one line."""
    from huggingface_hub import errors

    wanted = f"{file} of {repository}" if file else repository
    reasons = {  # the first class that fits counts: a gated repository is one that is not found, too
        errors.GatedRepoError: f"{repository} is gated: accept its terms on the hub, then log in: hf auth login",
        errors.RepositoryNotFoundError: f"no model {repository} on the hub; a private one needs: hf auth login",
        errors.RevisionNotFoundError: f"{repository} has no such revision on the hub",
        errors.LocalEntryNotFoundError: f"{wanted} is not in the cache, and the hub cannot be reached: go online once, "
        "or give a folder that has it",
        errors.EntryNotFoundError: f"{repository} has no file {file} on the hub",
        errors.HFValidationError: f"{repository!r} is no name on the hub: it has the form owner/name",
    }
    try:
        yield
    except (OSError, *reasons) as error:
        said = next((reason for kind, reason in reasons.items() if isinstance(error, kind)), None)
        short = f"{wanted} cannot be fetched: {' '.join(str(error).split())[:200]}"
        raise FileNotFoundError(said or short) from error
