"""The entry of a sample, made where the sample is read and sent beside its rows as one text."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from align.data.captions import look_up
from align.data.meta import read_meta
from align.data.names import FOREIGN, TEXT, MemberNames, find_mapped
from align.files import json_text
from align.search.item import Item
from align.values import Sample


def describe(sample: Sample, members: MemberNames = FOREIGN) -> dict[str, Any]:
    """Return key, captions, label and json of a sample as plain data that any index can hold."""
    meta = read_meta(sample, members)[0]
    about = {"key": sample["__key__"], "captions": captions(sample, members), "label": meta.label, "json": meta.json}
    return clean({name: x for name, x in about.items() if x not in (None, [], {})})


def write_entry(sample: Sample, members: MemberNames, source: Mapping[str, Any], mark: Any = None) -> str:
    """Return the entry of a sample as text. mark: the state of its files, where a source has one for each sample."""
    return json_text({**describe(sample, members), "source": source, **({"mark": mark} if mark else {})})


def read_entry(text: str) -> tuple[Item, Any]:
    """Return the item of ``write_entry`` and its mark."""
    about = json.loads(text)
    item = Item(about["key"], about["source"], about.get("captions", ()), about.get("label"), about.get("json", {}))
    return item, about.get("mark")


def shard_place(url: str) -> str:
    """Return the shard of a sample as items name it: its absolute path, its URL, or the command that gave it."""
    path = Path(url)
    return str(path.resolve()) if "://" not in url and (path.exists() or not url.startswith("pipe:")) else url


def clean(value: Any) -> Any:
    """Return plain data that UTF-8 and strict JSON can hold: NaN becomes None, half a surrogate pair "?"."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {clean(str(name)): clean(x) for name, x in value.items()}
    return [clean(x) for x in value] if isinstance(value, list | tuple) else value


def captions(sample: Sample, members: MemberNames = FOREIGN) -> list[str]:
    """Return the lines of a sample's texts, else the captions in its json under the keys that ``members`` names.

    Hard negatives are left out.
    """
    lines: list[str] = []
    for name in sorted(sample):
        parts, content = name.split("."), sample[name]
        if parts[-1] == TEXT and "neg" not in parts and isinstance(content, bytes | str):
            text = content.decode("utf-8-sig", "replace") if isinstance(content, bytes) else content
            lines += [line.strip() for line in text.splitlines() if line.strip()]
    return lines or _of_json(sample, members)


def _of_json(sample: Sample, members: MemberNames) -> list[str]:
    names = [find_mapped(m, members, sample) or "" for m in members if m != "label"]
    keys = [name.removeprefix("json:") for name in names if name.startswith("json:")]
    stated = read_meta(sample, members)[0].json or {} if keys else {}
    found = [look_up(stated, key) for key in keys]
    texts = [text for value in found for text in (value if isinstance(value, list) else [value])]
    return [text.strip() for text in texts if isinstance(text, str) and text.strip()]
