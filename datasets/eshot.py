"""EShot: sounds and clouds of 112 classes, for zero-shot between audio and 3D without a word.

    python datasets/eshot.py shards/eshot --source DIR
    align evaluate RUN shards/eshot/test-*.tar --with class-means

A sample is a sound (``audio.mp4``, or as its file is) or a cloud (``points.npy``), never both, with ``label: {category:
dog}`` and ``group``: the class. Nothing is paired: a sound is told by the mean of a class's clouds, and a cloud by the
mean of its sounds (``align evaluate --with class-means``), as the set's README has it. An item of several categories
has them all. Files that are not there are left out and counted. Clouds are pickles, of which only numpy arrays are let
through.

  what      about 3,500 sounds and clouds, 112 classes
  licence   ODC-By 1.0 for the tables; sounds of YouTube and models of Objaverse under their own
  cite      F. Broadbent et al. EBind: a practical approach to space binding. 2025 (arXiv 2511.14229)
  from      a person picks them: git clone https://github.com/encord-team/E-MM1, git lfs pull, and the media by its
            DOWNLOAD.md. This recipe downloads nothing
  layout    DIR/eshot or DIR/datasets/eshot: eshot_audio_info.csv (eshot_audio_id, file_name, save_folder),
            eshot_points_info.csv (eshot_point_id, file_name, save_folder), category_to_audio_ids.json and
            category_to_point_ids.json {category: [ids]}. Media: DIR/SAVE_FOLDER/{audio,points}/FILE_NAME, or
            DIR/eshot/{audio,points,point-clouds}/FILE_NAME
  checksum  git lfs checks the tables
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from npy_objects import load_objects
from recipe import Samples, about, cloud, member, parser, run, table, there, write

from align.files import read_json

PARTS = {  # modality -> its table, the column of its ids, the list of its classes, the folders of its media
    "audio": ("eshot_audio_info.csv", "eshot_audio_id", "category_to_audio_ids.json", ("audio",)),
    "points": ("eshot_points_info.csv", "eshot_point_id", "category_to_point_ids.json", ("points", "point-clouds")),
}
LICENCE = "ODC-By 1.0 (E-MM1's tables); each medium under its own licence"


def classes(folder: Path, modality: str) -> dict[str, list[str]]:
    """Id -> its categories, in sorted order. ValueError for a file of another form."""
    path = there(folder / PARTS[modality][2], "run git lfs pull")
    content = read_json(path)
    if not isinstance(content, dict) or not all(isinstance(ids, list) for ids in content.values()):
        raise ValueError(f"{path}: no object of category -> list of ids")
    found: dict[str, list[str]] = {}
    for category in sorted(content):
        for number in content[category]:
            found.setdefault(str(number), []).append(category)
    return found


def samples(source: Path, folder: Path, modality: str, known: Mapping[str, list[str]], missing: list[str]) -> Samples:
    """The samples of a modality. Files that are not there are noted in ``missing``."""
    name, column, _, places = PARTS[modality]
    path = there(folder / name, "run git lfs pull")
    for row in table(path, [column, "file_name", "save_folder"]):
        place, file = row["save_folder"], row["file_name"]
        if ".." in Path(place).parts or Path(place).is_absolute() or Path(file).name != file:
            raise ValueError(f"{path}: save_folder {place!r} and file_name {file!r} leave {source}")
        if row[column] not in known:
            raise ValueError(f"{path}: {column} {row[column]} is in no category of {PARTS[modality][2]}")
        lie = [below / one / file for below in (source / place, source / "eshot", folder) for one in places]
        at = next((one for one in lie if one.is_file()), None)
        if at is None:
            missing.append(file)
            continue
        said = known[row[column]]
        label = {"category": said[0] if len(said) == 1 else said}
        group = {"group": said[0]} if len(said) == 1 else {}
        yield f"{modality}-{row[column]}", _read(modality, at) | about({"label": label, **group})


def _read(modality: str, path: Path) -> dict[str, bytes]:
    if modality != "points":
        return member(modality, path)
    found = load_objects(path)
    if not isinstance(found, dict) or not {"xyz", "rgb"} <= set(found):
        raise ValueError(f"{path}: no xyz and rgb")
    return cloud(found["xyz"], found["rgb"], y_up=True)


def main(arguments: list[str] | None = None) -> int:
    args = parser(__doc__, "eshot/, and the media by E-MM1's DOWNLOAD.md").parse_args(arguments)

    def work() -> None:
        folder = next(
            (one for one in (args.source / "datasets" / "eshot", args.source / "eshot") if one.is_dir()), None
        )
        if folder is None:
            remedy = "clone https://github.com/encord-team/E-MM1 and run git lfs pull"
            raise FileNotFoundError(f"no eshot in {args.source} or {args.source / 'datasets'}; {remedy}")
        known = {m: classes(folder, m) for m in PARTS}
        names = sorted({category for found in known.values() for some in found.values() for category in some})
        missing: list[str] = []
        every = (sample for m in PARTS for sample in samples(args.source, folder, m, known[m], missing))
        write(args.out, "test", every, licence=LICENCE, classes={"category": names})
        print(f"{args.out}: {len(missing)} files are listed but not there")

    return run("eshot.py", work)


if __name__ == "__main__":
    sys.exit(main())
