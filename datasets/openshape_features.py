"""OpenShape's training data: coloured clouds with CLIP's features of their pictures and texts, ready to align.

    python datasets/openshape_features.py shards/openshape --source DIR
    python datasets/openshape_features.py shards/shapenet --source DIR --list ablation/train_shapenet_only --views 1

One sample a shape: ``points.npy`` (10000, 6) float16, z up (the files have y up), rgb in [0, 1]; ``image.0.npy``, …
(W,) float16, features of its renderings and then of its thumbnail; ``text.0.npy``, … (W,) of its texts; ``json`` with
the texts themselves (``captions``, in the order of the rows), ``dataset`` and OpenShape's id. A tower of points trains
against towers of ``Precomputed`` features; no picture and no text is read. ``train`` is the only split. Shapes whose
file is not there are left out and counted. The files are pickles, of which only numpy arrays are let through.

Original texts come first, then the captions of BLIP and of Azure, then retrieved texts. An original text of Objaverse
that GPT-4 has marked as noise is left out, as in OpenShape's training. --text prompt_avg takes the mean over ULIP's
templates for all but the retrieved texts, as there.

  what      876,000 shapes of Objaverse, ShapeNet, ABO and 3D-FUTURE; W = 1,280
  licence   Objaverse ODC-By 1.0 and each model its own; ShapeNet, ABO and 3D-FUTURE under their terms
  cite      M. Liu et al. OpenShape: Scaling Up 3D Shape Representation. NeurIPS 2023
  from      a person picks them: https://huggingface.co/datasets/OpenShape/openshape-training-data, unpacked into DIR
            (205 GB)
  layout    (https://github.com/Colin97/OpenShape_code, README and src/data.py, class Four) meta_data/split/LIST.json
            [{dataset, id, group, data_path}], of whose data_path DIR stands for /mnt/data; meta_data/
            gpt4_filtering.json {id: {flag: Y or N}}. Each file a .npy of a dict: xyz, rgb (10000, 3), image_feat (12,
            W), thumbnail_feat, text [str] with text_feat [{original, prompt_avg}], blip_caption and msft_caption with
            _feat, retrieval_text [str] with retrieval_text_feat. Features are OpenCLIP's, ViT-bigG-14,
            laion2b_s39b_b160k
  checksum  none is published
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from npy_objects import OPENSHAPE, handed_on, load_objects
from recipe import Members, Samples, about, cloud, parser, plain, records, run, write

from align.files import read_json

THEIRS = "/mnt/data/"  # where OpenShape's authors unpacked; their list begins its paths so
LICENCE = "Objaverse ODC-By 1.0 and each model its own; ShapeNet, ABO and 3D-FUTURE under their terms"


def images(found: Mapping[str, Any]) -> list[np.ndarray]:
    """Features of the renderings, then of the thumbnail where there is one. ValueError for others than (n, W)."""
    pictures, thumbnail = np.asarray(found["image_feat"]), found.get("thumbnail_feat")
    if pictures.ndim != 2:
        raise ValueError(f"image_feat is {pictures.shape}, not (n, W)")
    return [*pictures, *([] if thumbnail is None or not np.size(thumbnail) else [np.asarray(thumbnail).reshape(-1)])]


def texts(found: Mapping[str, Any], version: str, *, noisy: bool) -> Iterator[tuple[str, np.ndarray]]:
    """Each text with its feature. noisy: leave out the original texts."""
    if not noisy:
        for said, feature in zip(found.get("text", []), found.get("text_feat", []), strict=True):
            yield said, feature[version]
    for name in ("blip_caption", "msft_caption"):
        if found.get(name):
            yield found[name], found[f"{name}_feat"][version]
    for said, feature in zip(found.get("retrieval_text", []), found.get("retrieval_text_feat", []), strict=True):
        yield said, feature["original"]  # no templates for these


def samples(source: Path, name: str, version: str, views: int, seed: int, missing: list[str]) -> Samples:
    """The samples of a list of shapes. Files that are not there are noted in ``missing``."""
    fields = {"dataset": str, "id": str, "data_path": str}
    flags = read_json(handed_on(source, "gpt4_filtering.json", OPENSHAPE))
    for number, row in enumerate(records(handed_on(source, f"split/{name}.json", OPENSHAPE), fields)):
        path = _below(source, row["data_path"].removeprefix(THEIRS))
        if not path.is_file():
            missing.append(row["id"])
            continue
        found = load_objects(path)
        if not isinstance(found, dict) or not {"xyz", "rgb", "image_feat"} <= set(found):
            raise ValueError(f"{path}: no xyz, rgb and image_feat")
        noisy = row["dataset"] == "Objaverse" and flags.get(row["id"], {}).get("flag") == "N"
        draw = np.random.default_rng([seed, number])
        try:
            pictures = _keep(images(found), views, draw)
            said = _keep(list(texts(found, version, noisy=noisy)), views, draw)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: its features are not as described ({error})") from None
        members: Members = dict(_row("image", i, x) for i, x in enumerate(pictures))
        members |= dict(_row("text", i, x) for i, (_, x) in enumerate(said))
        facts = {"captions": [one for one, _ in said], "dataset": row["dataset"], "id": row["id"]}
        points = cloud(found["xyz"], found["rgb"], y_up=True)
        yield plain(f"{row['dataset']}-{row['id']}"), points | members | about(facts)


def _keep(rows: list[Any], most: int, draw: np.random.Generator) -> list[Any]:
    """Return ``most`` rows, drawn, in their order. 0: all."""
    if not most or len(rows) <= most:
        return rows
    return [rows[i] for i in sorted(draw.choice(len(rows), most, replace=False))]


def _row(modality: str, i: int, x: np.ndarray) -> tuple[str, bytes]:
    np.save(out := io.BytesIO(), np.asarray(x).reshape(-1).astype(np.float16), allow_pickle=False)
    return f"{modality}.{i}.npy", out.getvalue()


def _below(folder: Path, path: str) -> Path:
    if ".." in Path(path).parts:
        raise ValueError(f"path {path!r} leaves {folder}")
    return folder / path.lstrip("/")


def main(arguments: list[str] | None = None) -> int:
    made = parser(__doc__, "meta_data/ and the folders of shapes")
    made.add_argument("--list", default="train_all", help="of meta_data/split, without .json (default: train_all)")
    made.add_argument("--text", choices=["prompt_avg", "original"], default="prompt_avg", help="(default: prompt_avg)")
    made.add_argument(
        "--views", type=int, default=0, help="rows of each modality that are kept, drawn; 0: all (default)"
    )
    args = made.parse_args(arguments)

    def work() -> None:
        missing: list[str] = []
        found = samples(args.source, args.list, args.text, args.views, args.seed, missing)
        write(args.out, "train", found, licence=LICENCE)
        print(f"{args.out}: {len(missing)} shapes are listed but not there")

    return run("openshape_features.py", work)


if __name__ == "__main__":
    sys.exit(main())
