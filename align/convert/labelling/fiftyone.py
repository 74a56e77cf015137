"""A folder of FiftyOne's dataset format (``fiftyone.types.FiftyOneDataset``), written without FiftyOne.

The format has two versions. The later one copies documents of FiftyOne's database, which change with its releases.
The earlier one is plain JSON of samples, and every release reads it: a ``metadata.json`` without ``version``. This file
writes that one. https://docs.voxel51.com/user_guide/import_datasets.html
"""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from align.convert.labelling.media import Kind
from align.convert.labelling.names import name_field, name_fields
from align.convert.labelling.records import Facts, Reading, Record, read_records, write_records
from align.convert.labelling.writing import Written, say_facts
from align.files import json_text, write_json
from align.files.fresh import fresh_folder

MEDIA_TYPES: dict[Kind, str] = {"picture": "image", "video": "video", "cloud": "point-cloud", "sound": "unknown"}
"""Kind -> FiftyOne's media type, in the order in which a sample's file is chosen."""


def write_fiftyone(reading: Reading, out: str | Path, name: str) -> Written:
    """Write shards as a dataset of FiftyOne, with embeddings and zero-shot labels. It appears whole or not at all.

    A sample's file is its picture, else its video, cloud or sound: the same modality for all samples. The fields are
    key, shard, captions, ``label_ATTRIBUTE`` (Classification), ``zeroshot_ATTRIBUTE_MODALITY`` (Classification, with
    the probability as confidence), ``embedding_MODALITY`` (a vector), and ``MODALITY_path`` for the other files.

    name: of the dataset. Raises ValueError where nothing can be shown, and where `out` is there already.
    """
    kinds = reading.kinds
    first = choose_file(kinds, reading.shards.modalities)
    with fresh_folder(out) as work:
        folders = {m: work / "data" if m == first else work / "fields" / f"{name_field(m)}_path" for m in kinds}
        facts = write_records(reading, work, folders, lambda record: first in record["files"], vectors=True)
        fields = name_fields([*facts.classes])
        with (work / "samples.json").open("w", encoding="utf-8") as file:
            file.write('{"samples": [')
            for i, record in enumerate(read_records(work)):
                sample = make_sample(record, first, fields, facts)
                if kinds[first] == "video":
                    sample["frames"] = write_frames(work, i)
                file.write(("," if i else "") + "\n" + json_text(sample))
            file.write("\n]}\n")
        classes = {field: facts.classes[attribute] for attribute, field in fields.items()}
        about = {"name": name, "media_type": MEDIA_TYPES[kinds[first]], "info": {"classes": classes}}
        write_json(work / "metadata.json", about)
    notes = say_facts(facts, f"without a file of {first}")
    if kinds[first] == "sound":
        notes.append("FiftyOne plays no sound; it lists the samples and their fields")
    notes += [
        f"{m}: FiftyOne shows one file of a sample; {name_field(m)}_path names these" for m in kinds if m != first
    ]
    return Written(facts, notes)


def choose_file(kinds: Mapping[str, Kind], counts: Mapping[str, int]) -> str:
    """Return the modality of the samples' files: a picture before a video, a cloud and a sound, then the most samples.

    Raises ValueError where there is none.
    """
    if not kinds:
        raise ValueError(f"FiftyOne shows pictures, videos and clouds; the shards have {', '.join(counts) or 'none'}")
    order = [*MEDIA_TYPES]
    return min(kinds, key=lambda m: (order.index(kinds[m]), -counts.get(m, 0), m))


def make_sample(record: Record, first: str, fields: Mapping[str, str], facts: Facts) -> dict[str, Any]:
    """Return a record as a sample of FiftyOne, in JSON's types. fields: attribute -> its labels' field."""
    sample: dict[str, Any] = {"filepath": record["files"][first], "tags": []}
    sample |= {name: record[name] for name in ("key", "shard", "captions")}
    for attribute, values in record["labels"].items():
        labels = [classification(value) for value in values]
        if attribute in facts.several:
            sample[fields[attribute]] = {"_cls": "Classifications", "classifications": labels}
        else:
            sample[fields[attribute]] = labels[0]
    for attribute, modality, label, confidence in record["answers"]:
        sample[f"zeroshot_{name_field(attribute)}_{name_field(modality)}"] = classification(label, confidence)
    for modality, vector in record["vectors"].items():
        sample[f"embedding_{name_field(modality)}"] = pack_vector(np.frombuffer(base64.b64decode(vector), "<f4"))
    files = {f"{name_field(m)}_path": path for m, path in record["files"].items() if m != first}
    return sample | files


def classification(label: str, confidence: float | None = None) -> dict[str, Any]:
    """Return a label of FiftyOne."""
    more = {} if confidence is None else {"confidence": confidence}
    return {"_cls": "Classification", "label": label, **more}


def pack_vector(vector: np.ndarray) -> dict[str, Any]:
    """Return a vector as FiftyOne's JSON holds one: a .npy, compressed by zlib, in MongoDB's extended JSON."""
    out = io.BytesIO()
    np.save(out, vector, allow_pickle=False)
    return {"$binary": {"base64": base64.b64encode(zlib.compress(out.getvalue())).decode(), "subType": "00"}}


def write_frames(work: Path, number: int) -> str:
    """Write the file of a video's frame labels, of which there are none, and return its path. FiftyOne asks for it."""
    path = work / "frames" / f"{number:08d}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text('{"frames": {}}\n', encoding="utf-8")
    return path.relative_to(work).as_posix()
