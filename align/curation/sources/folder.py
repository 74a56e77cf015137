"""A tree of folders, ``CLASS/file`` or ``train|test|…/CLASS/file``, or plain files, and the samples they become."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from align.curation.members.files import Member, Sampling, file_modality, from_bytes, make_member, refuse
from align.curation.members.planned import Planned
from align.curation.sources.layout import are_parts, check_apart
from align.data.meta import is_text
from align.data.names import TEXT
from align.media import MEDIA, Media
from align.media.choice import advise

SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
}


class Folder:
    """A folder of classes. The folder's name is the label, and by a template the caption and the group.

    Files of one class with the same stem and different modalities are one sample (``dog/1.jpg``, ``dog/1.wav``). A
    ``.txt`` beside them is the caption. Files without a folder of a class (``1.jpg``, ``1.txt``) are samples without a
    label, and so are those of ``images/1.jpg`` beside ``captions/1.txt`` and of img2dataset's ``00000/000000000.jpg``.
    Hidden files and files of unknown suffix are left out and counted.

    Args:
        path: the folder.
        template: captions, ``{}`` stands for the class name. Empty: no caption.
        sampling: of meshes.
        media: that files are read by.
    """

    def __init__(
        self,
        path: Path,
        *,
        template: Sequence[str] = ("{}",),
        sampling: Sampling = Sampling(),
        media: Media = MEDIA,
    ):
        for text in template:
            if "{}" not in text:
                raise ValueError(f"template {text!r} has no {{}} for the class name")
        self.path, self.template, self.sampling, self.media = path, template, sampling, media
        self.unknown = 0  # files that no modality reads
        self.advice = ""  # how the first file of a related format becomes one that is read

    def splits(self) -> dict[str, Path] | None:
        """Return split -> its folder, or None where the folders are classes."""
        names = self._folders(self.path)
        if not names or any(name.name.lower() not in SPLITS for name in names):
            return None
        found: dict[str, Path] = {}
        for folder in names:
            split = SPLITS[folder.name.lower()]
            if split in found:
                raise ValueError(f"{found[split]} and {folder} are both the split {split!r}; keep one")
            found[split] = folder
        return found

    def classes(self, root: Path) -> list[Path]:
        """Return the folders of the classes. There are none where the files lie in ``root`` itself.

        Raises ValueError for neither, and for a folder of captions apart from their files.
        """
        found = self._folders(root)
        if not found and not self._flat(root):
            if advice := next((said for p in sorted(root.iterdir()) if (said := advise(self.media, p))), ""):
                raise ValueError(f"{root} has no file that is read; {advice}")
            raise ValueError(f"{root} has no folders; expected {root}/CLASS/file, or a table (.csv, .jsonl, .parquet)")
        if are_parts(found, self.media):
            return []
        check_apart(found, self.media)
        return found

    def _flat(self, root: Path) -> bool:
        return any(p.is_file() and file_modality(p, self.media) not in (None, "text") for p in root.iterdir())

    def samples(self, root: Path, prefix: str = "") -> Iterator[Planned]:
        """Plan the samples of the files below ``root/CLASS/``, sorted.

        Keys begin with the prefix, so that two splits share none. Raises ValueError for two files in one place.
        """
        self.unknown = 0
        taken: set[str] = set()
        for folder in self.classes(root) or [root]:
            label = None if folder == root else folder.name
            if label is not None and not is_text(label):
                raise ValueError(f"{folder}: a class is called as its folder, whose name is no UTF-8; rename it")
            caption = "\n".join(text.replace("{}", (label or "").replace("_", " ")) for text in self.template)
            for stem, files in self._group(folder, label is None and bool(self._folders(folder))):
                key = _key(prefix + (stem if label is None else f"{label}/{stem}"), taken)
                members = [self._member(m, path, key) for m, path in files.items()]
                if label is not None:
                    about = {"label": label}
                    if "text" not in files and caption:
                        members.append(from_bytes(f"text.{TEXT}", caption.encode()))
                        about["group"] = label.replace("_", " ")  # equal captions are no negatives of each other
                    members.append(from_bytes("json", json.dumps(about, ensure_ascii=False).encode()))
                yield Planned(key, members)
        if not taken:
            also = self.advice and f"; {self.advice}"
            raise ValueError(f"no file below {root} has a suffix that is known{also}; see `align shards build --help`")

    def _member(self, modality: str, path: Path, key: str) -> Member:
        if is_broken(path):
            detail = f"{path} is a link to a file that is not there"
            return refuse(f"{modality}.{path.suffix.lower()[1:]}", f"{modality}/unreadable", detail)
        return make_member(modality, path, key, self.sampling, self.path, self.media)

    def _group(self, folder: Path, parts: bool) -> Iterator[tuple[str, dict[str, Path]]]:
        """Yield the files of each sample by its stem. parts: the folder of a file does not count."""
        found: dict[str, dict[str, Path]] = {}
        for path in sorted(folder.rglob("*")):
            relative = path.relative_to(folder)
            if not (_is_visible(path, folder) or (is_broken(path) and not _is_hidden(path, folder))):
                continue
            modality = file_modality(path, self.media)
            if modality is None:
                self.unknown += 1
                self.advice = self.advice or advise(self.media, path)
                continue
            stem = Path(*relative.parts[parts and len(relative.parts) > 1 :]).with_suffix("").as_posix()
            other = found.setdefault(stem, {}).setdefault(modality, path)
            if other != path:
                raise ValueError(f"{other} and {path} would be the {modality} of one sample; rename one of them")
        for stem, files in found.items():
            if set(files) == {"text"}:
                self.unknown += 1  # a note such as README.txt, no caption of anything
            else:
                yield stem, dict(sorted(files.items()))

    @staticmethod
    def _folders(path: Path) -> list[Path]:
        return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))


def find_unread(root: Path, media: Media = MEDIA) -> dict[str, list[Path]]:
    """Return the files below ``root`` that no modality reads, by their suffix in lower case, without hidden ones."""
    found: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*")):
        if _is_visible(path, root) and file_modality(path, media) is None:
            found.setdefault(path.suffix.lower(), []).append(path)
    return found


def _is_visible(path: Path, root: Path) -> bool:
    return path.is_file() and not _is_hidden(path, root)


def _is_hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def is_broken(path: Path) -> bool:
    """Return whether a path is a link to nothing, as a data set holds it whose files were not fetched."""
    return path.is_symlink() and not path.exists()


def _key(name: str, taken: set[str]) -> str:
    """Return a key like the file's name, with "_" for characters that no key holds, and a number where it is taken."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", name)
    key, number = plain, 1
    while key in taken:
        number += 1
        key = f"{plain}-{number}"
    taken.add(key)
    return key
