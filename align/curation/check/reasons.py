"""Reasons of a check that hold for any medium: each one's severity, and its meaning for training.

A medium states its own (``Medium.reasons``), which come first. A reason without a line (``image/truncated``,
``points/range``, …) is an error: such a member cannot be used. MODALITY stands for any name.
"""

from __future__ import annotations

from align.media import MEDIA, Media
from align.media.medium import Severity

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

ERRORS = {
    "shard/header": "a header that cannot be read; what follows was found again, what lies in the gap is lost",
    "shard/truncated": "the file ends inside a member: it was cut",
    "shard/no-tar": "no tar file, or a compressed one: nothing of it is read",
    "shard/unreachable": "its server did not answer",
    "shard/empty": "no sample in the whole file",
    "shard/manifest": "the file is not the one that manifest.json speaks of",
    "shard/missing": "manifest.json names a shard that is not there",
    "shard/unsafe-name": "a name that could leave a folder, has no key or is none of a file; it is never read",
    "shard/no-file": "a link, a device or a sparse file in place of a member: its bytes are not there",
    "shard/duplicate-member": "a member that is there twice; the first counts",
    "sample/cut": "it touches a gap of the tar and is left out whole",
    "sample/lost": "it was there when the shard was indexed first; of the damaged one it cannot be read",
    "sample/duplicate-key": "a key names one sample, this one names several",
    "json/invalid": "no JSON: its label, group, weight and grades are lost",
    "json/label": "a label is an int, a str, a list, or a dict of attribute to one of these",
    "json/weight": "a weight is a finite number of at least 0",
    "json/grade": "a grade is good, partial, exclude or bad, of two modalities joined by +",
    "json/not-object": "the json holds no object, so no label, group, weight or grade",
    "label/unknown": "a label that is not among the classes of manifest.json",
    "leak/exact": "the same bytes are in the other set",
    "MODALITY/empty": "no content",
    "MODALITY/checksum": "the bytes are not those that the index was made of",
    "MODALITY/unreadable": "it cannot be read",
    "MODALITY/truncated": "it is cut: fewer bytes than its header announces",
    "MODALITY/corrupt": "its bytes do not decode",
    "MODALITY/too-large": "larger than what is decoded: refused by its header",
    "MODALITY/range": "values that are far from any that make sense",
    "MODALITY/dtype": "an array of something else than numbers",
    "MODALITY/non-finite": "NaN or infinity",
    "MODALITY/not-utf8": "text is UTF-8",
    "MODALITY/box": "a box is [left, top, right, bottom] in fractions of the picture, 0 to 1, and not empty",
    "MODALITY/list": "regions are a list of objects, {box, text}",
    "MODALITY/no-box": "a region without a box",
    "MODALITY/no-text": "a region without a text, or with a blank one",
    "MODALITY/not-text": "a caption is a string, or a list of strings",
}
WARNINGS = {
    "shard/no-end": "the end mark of a tar is missing: it may have been cut between two members",
    "shard/not-adjacent": "a sample's members are not neighbours; other readers make two samples of it",
    "sample/no-modality": "no member of any modality",
    "sample/shadowed": "a member that differs from another only in its suffix, and is never used",
    "member/pickle": "pickles can run code; they are never opened here, but other readers open them",
    "MODALITY/negative": "a hard negative that equals a row of its own sample",
    "MODALITY/duplicate": "the same bytes are stored for an earlier row",
    "MODALITY/near-duplicate": "it looks or sounds like an earlier one, or has its points",
    "leak/near": "it looks or sounds like one of the other set, or has its points",
    "leak/group": "its group is in the other set too: a leak, unless groups are classes",
    "leak/key": "its key is in the other set too",
    "label/mixed": "some labels are numbers and some are names",
    "label/alike": "two classes whose names differ in case or spaces alone",
    "label/imbalance": "the most frequent class has more than 100 times the samples of the rarest",
}
NOTES = {
    "shard/other-file": "a hidden file or one without a suffix; it is passed over",
    "member/unknown": "a member without a modality; it is passed over",
    "label/missing": "no label, where others have one",
    "label/rare": "a class with a single sample",
    "label/absent": "a class of manifest.json without a sample",
    "MODALITY/missing": "no row of a modality that others have",
    "MODALITY/blank": "a caption without a word: a hole",
}
_tables: dict[Severity, dict[str, str]] = {"error": ERRORS, "warning": WARNINGS, "note": NOTES}
_general: dict[str, tuple[Severity, str]] = {
    reason: (severity, text) for severity, table in _tables.items() for reason, text in table.items()
}


def severity(reason: str, media: Media = MEDIA) -> Severity:
    """Return "error" (it counts against the budget), "warning" or "note". A reason without a line is an "error"."""
    found = _line(reason, media)
    return found[0] if found else "note" if reason.startswith("ignored/") else "error"


def meaning(reason: str, media: Media = MEDIA) -> str:
    """Return the meaning of a reason in a line, or "" where its name says it all."""
    found = _line(reason, media)
    return (
        found[1] if found else "its suffix is not one that the modality reads" if reason.startswith("ignored/") else ""
    )


def _line(reason: str, media: Media) -> tuple[Severity, str] | None:
    for medium in media:
        if reason in medium.reasons:
            return medium.reasons[reason]
    return _general.get(reason) or _general.get("MODALITY/" + reason.partition("/")[2])
