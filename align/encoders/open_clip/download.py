"""Weights of open_clip's tags and of models on the hub that open_clip saved, downloaded at their first use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from align.files import cache_dir, sha256
from align.files.fetch import download
from align.files.hub import CARD, hub_file

NAMES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def download_tag(name: str, tag: str, about: Mapping[str, Any]) -> tuple[Path, str]:
    """Return the file of a tag's weights, and the hub's ``owner/name`` or the URL that it comes from.

    about: open_clip's entry of the tag. The hub is preferred, as open_clip does. Raises OSError in one line.
    """
    if about.get("hf_hub"):
        repository, _, file = about["hf_hub"].rpartition("/")
        return download_weights(repository, file), repository
    if about.get("url"):
        return download_url(about["url"]), about["url"]
    raise OSError(f"open_clip states no place of the weights {tag!r} of {name}")


def download_weights(repository: str, file: str = "") -> Path:
    """Return a file of weights on the hub, a safetensors where there is one, and fetch the model's card beside it.

    Raises FileNotFoundError in one line, as ``hub_file``.
    """
    names = NAMES if not file else dict.fromkeys((str(Path(file).with_suffix(".safetensors")), file))
    with suppress(FileNotFoundError):
        hub_file(repository, CARD)
    first: FileNotFoundError | None = None
    for candidate in names:
        try:
            return hub_file(repository, candidate)
        except FileNotFoundError as error:
            first = first or error
    raise first or FileNotFoundError(f"{repository} has no weights")


def download_url(url: str) -> Path:
    """Return the file of a URL in the cache, continued if it was cut.

    OpenAI's URLs hold the SHA-256 of their file, open_clip's the first digits. Raises OSError where it differs.
    """
    path = cache_dir() / "open_clip" / url.rpartition("/")[2]
    whole = re.search(r"/([0-9a-f]{64})/", url)
    if whole:
        return download(url, path, sha256=whole[1])
    first = re.search(r"-([0-9a-f]{8,})\.\w+$", url)
    download(url, path)
    if first and not sha256(path).startswith(first[1]):
        path.unlink()
        raise OSError(f"{url} did not give the file that is expected: its SHA-256 does not begin with {first[1]}")
    return path
