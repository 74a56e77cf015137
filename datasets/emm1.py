"""E-MM1: captions, pictures, sounds, videos and clouds in groups, and triplets that people graded.

    python datasets/emm1.py shards/emm1 --source DIR                       # 1m: the graded triplets
    python datasets/emm1.py shards/emm1 --source DIR --layout 100m --neighbours 1 2
    python datasets/emm1.py shards/emm1 --source DIR --features FEATURES   # in place of the media

A sample of ``1m`` is a triplet: a caption, the item that it belongs to and a candidate of another modality, with the
grade that a person gave the caption and the candidate: ``grade: {"audio+points": good, "audio+text": good}`` (good,
partial or bad), for the candidate with both. A sample of ``100m`` is a caption with its k-th nearest picture, sound,
video and cloud, found by machine. Samples of one caption share a ``group``. Members are the files that are there:
``image.jpg``, ``video.mp4``, ``audio.mp4`` (the sound of a video), ``points.npy`` and ``text.txt``. A sample with fewer
than two is left out, and counted. Clouds are pickles, of which only numpy arrays are let through.

--features takes a folder with ``MODALITY.npy`` (n, W), the user's features, and ``MODALITY.ids.npy`` (n,), the encord
ids of its rows. A sample then has ``MODALITY.npy`` (W,) for each modality that lies there, the text included, and the
file for any other.

  what      1m: about 1 million grades; 100m: 6.7 million captions with 16 neighbours each
  licence   ODC-By 1.0 for the tables; each medium under its own, stated a row as dataset_license
  cite      F. Broadbent et al. EBind: a practical approach to space binding. 2025 (arXiv 2511.14229)
  from      a person picks them: git clone https://github.com/encord-team/E-MM1, git lfs pull, and the media by its
            DOWNLOAD.md. This recipe downloads nothing
  layout    DIR/e-mm1_1m or DIR/datasets/e-mm1_1m (once called encord_phase_2_dataset): infos/{image,audio,video,points,
            text}.csv with encord_MODALITY_id, file_name, save_folder (text: encord_text_id, caption), and triplets.csv:
            encord_text_id, paired_modality, annotated_modality, encord_paired_id, encord_annotated_id, annotation (1
            good, 2 partial, 3 bad). DIR/e-mm1_100m: the same infos, and nn_K/data_groups.csv with encord_text_id and
            encord_MODALITY_id. Media: DIR/SAVE_FOLDER/{image,video,points}/FILE_NAME; sounds lie in video/
  checksum  git lfs checks the tables
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from npy_objects import load_objects
from recipe import Members, Samples, about, cloud, member, parser, run, table, text, there, write

MODALITIES = ("image", "audio", "video", "points")
GRADES = {"1": "good", "2": "partial", "3": "bad"}
FOLDERS = {"1m": ("e-mm1_1m", "encord_phase_2_dataset"), "100m": ("e-mm1_100m", "encord_phase_1_dataset")}
LICENCE = "ODC-By 1.0 (E-MM1's tables); each medium under its own licence"


class Group(NamedTuple):
    """Items that belong together: the caption, modality -> id, and the grades of pairs of them."""

    key: str
    caption: str
    items: Mapping[str, str]
    grades: Mapping[str, str]


class Features:
    """Rows of the user's features, by encord id. Raises ValueError where ids and rows differ in number."""

    def __init__(self, folder: Path):
        self._rows: dict[str, np.ndarray] = {}
        self._place: dict[str, dict[int, int]] = {}
        for path in sorted(folder.glob("*.ids.npy")):
            name = path.name.removesuffix(".ids.npy")
            rows = np.load(there(folder / f"{name}.npy", f"{path} numbers its rows"), mmap_mode="r")
            ids = np.load(path)
            if rows.ndim != 2 or ids.shape != (len(rows),):
                raise ValueError(
                    f"{folder / name}.npy is {rows.shape} and its ids {ids.shape}; they are (n, W) and (n,)"
                )
            self._rows[name], self._place[name] = rows, {int(number): i for i, number in enumerate(ids)}
        if not self._rows:
            raise ValueError(f"{folder} has no MODALITY.npy with MODALITY.ids.npy beside it")

    def __contains__(self, modality: str) -> bool:
        return modality in self._rows

    def read(self, modality: str, number: str) -> Members:
        """Return the row of an id as a member, {} where it has none."""
        place = self._place[modality].get(int(number))
        if place is None:
            return {}
        np.save(out := io.BytesIO(), np.ascontiguousarray(self._rows[modality][place]), allow_pickle=False)
        return {f"{modality}.npy": out.getvalue()}


def tables(source: Path, layout: str) -> Path:
    """The folder with the tables of a layout. FileNotFoundError where there is none."""
    for folder in (source / "datasets", source):
        for name in FOLDERS[layout]:
            if (folder / name).is_dir():
                return folder / name
    remedy = "clone https://github.com/encord-team/E-MM1 and run git lfs pull"
    raise FileNotFoundError(f"no {FOLDERS[layout][0]} in {source} or {source / 'datasets'}; {remedy}")


def files(source: Path, folder: Path, modality: str) -> dict[str, Path]:
    """Id -> file of a modality, of those that are there: a table of millions of rows names many that are not."""
    lie = "video" if modality == "audio" else modality  # sounds were downloaded as videos
    here: dict[str, frozenset[str]] = {}
    found = {}
    path = folder / "infos" / f"{modality}.csv"
    for row in table(path, [f"encord_{modality}_id", "file_name", "save_folder"]) if path.is_file() else ():
        place, name = row["save_folder"], row["file_name"]
        if ".." in Path(place).parts or Path(place).is_absolute() or Path(name).name != name:
            raise ValueError(f"{path}: save_folder {place!r} and file_name {name!r} leave {source}")
        if place not in here:
            media = source / place / lie
            here[place] = frozenset(one.name for one in media.iterdir()) if media.is_dir() else frozenset()
        if name in here[place]:
            found[row[f"encord_{modality}_id"]] = source / place / lie / name
    return found


def captions(folder: Path) -> dict[str, str]:
    """Id -> caption."""
    rows = table(there(folder / "infos" / "text.csv", "run git lfs pull"), ["encord_text_id", "caption"])
    return {row["encord_text_id"]: row["caption"] for row in rows}


def triplets(folder: Path) -> Iterator[Group]:
    """The groups of ``triplets.csv``. The same triplet with another grade comes once more, by its number."""
    seen: dict[str, int] = {}
    columns = ["encord_text_id", "paired_modality", "annotated_modality", "encord_paired_id", "encord_annotated_id"]
    path = there(folder / "triplets.csv", "run git lfs pull")
    for row in table(path, [*columns, "annotation"]):
        paired, annotated = row["paired_modality"], row["annotated_modality"]
        if unknown := {paired, annotated} - set(MODALITIES):
            raise ValueError(f"{path}: modality {sorted(unknown)[0]!r} is none of {', '.join(MODALITIES)}")
        if row["annotation"] not in GRADES or paired == annotated:
            raise ValueError(f"{path}: {paired}, {annotated} with annotation {row['annotation']!r}, which is 1, 2 or 3")
        caption = row["encord_text_id"]
        items = {paired: row["encord_paired_id"], annotated: row["encord_annotated_id"]}
        key = "-".join([caption, *(f"{m}{items[m]}" for m in sorted(items))])
        seen[key] = seen.get(key, 0) + 1
        grade = GRADES[row["annotation"]]
        grades = {"+".join(sorted((annotated, other))): grade for other in (paired, "text")}
        yield Group(key if seen[key] == 1 else f"{key}-{seen[key]}", caption, items, grades)


def neighbours(folder: Path, numbers: list[int]) -> Iterator[Group]:
    """The groups of the k-th nearest neighbours."""
    for k in numbers:
        path = there(folder / f"nn_{k}" / "data_groups.csv", "run git lfs pull")
        for row in table(path, ["encord_text_id"]):
            items = {m: row[f"encord_{m}_id"] for m in MODALITIES if row.get(f"encord_{m}_id")}
            yield Group(f"{row['encord_text_id']}-{k}", row["encord_text_id"], items, {})


def samples(
    groups: Iterator[Group], said: Mapping[str, str], media: Mapping[str, Mapping[str, Path]], features: Features | None
) -> Samples:
    """The samples of groups of which at least two members are there."""
    for group in groups:
        made: Members = {}
        for m, number in group.items.items():
            if features is not None and m in features:
                made |= features.read(m, number)
            elif (path := media[m].get(number)) is not None:
                made |= _points(path) if m == "points" else member(m, path)
        if features is not None and "text" in features:
            made |= features.read("text", group.caption)
        elif group.caption in said:
            made |= text([said[group.caption]])
        if len(made) > 1:
            grades = {"grade": dict(group.grades)} if group.grades else {}
            yield group.key, made | about({"group": int(group.caption), **grades})


def _points(path: Path) -> Members:
    found = load_objects(path)
    if not isinstance(found, dict) or not {"xyz", "rgb"} <= set(found):
        raise ValueError(f"{path}: no xyz and rgb")
    return cloud(found["xyz"], found["rgb"], y_up=True)


def main(arguments: list[str] | None = None) -> int:
    made = parser(__doc__, "E-MM1's tables, and the media by its DOWNLOAD.md")
    made.add_argument("--layout", choices=["1m", "100m"], default="1m", help="(default: 1m)")
    made.add_argument("--neighbours", type=int, nargs="+", default=[1], help="of 100m: which of 1 to 16 (default: 1)")
    made.add_argument("--features", type=Path, help="a folder of MODALITY.npy and MODALITY.ids.npy")
    args = made.parse_args(arguments)

    def work() -> None:
        folder = tables(args.source, args.layout)
        groups = list(triplets(folder)) if args.layout == "1m" else list(neighbours(folder, args.neighbours))
        features = None if args.features is None else Features(args.features)
        media = {m: files(args.source, folder, m) for m in MODALITIES if features is None or m not in features}
        got = write(args.out, "train", samples(iter(groups), captions(folder), media, features), licence=LICENCE)
        print(f"{args.out}: {len(groups) - got} of {len(groups)} groups have fewer than two members here")

    return run("emm1.py", work)


if __name__ == "__main__":
    sys.exit(main())
