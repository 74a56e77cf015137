"""Reasons of a check's findings: the severity of each, and its meaning for training.

A reason that a preprocess gives (``image/truncated``, ``points/range``, …) is an error without a line here, because
such a member cannot be used. MODALITY stands for the name of any modality.
"""

from __future__ import annotations

from typing import Literal

Severity = Literal["error", "warning", "note"]
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
    "json/invalid": "no JSON: its label, group and weight are lost",
    "json/label": "a label is an int, a str, a list, or a dict of attribute to one of these",
    "json/weight": "a weight is a finite number of at least 0",
    "json/not-object": "the json holds no object, so no label, group or weight",
    "label/unknown": "a label that is not among the classes of manifest.json",
    "leak/exact": "the same bytes are in the other set",
    "MODALITY/empty": "no content",
    "points/incomplete": "a file that it refers to is not there",
    "MODALITY/checksum": "the bytes are not those that the index was made of",
    "MODALITY/unreadable": "it cannot be read",
    "MODALITY/truncated": "it is cut: fewer bytes than its header announces",
    "MODALITY/corrupt": "its bytes do not decode",
    "MODALITY/too-large": "larger than what is decoded: refused by its header",
    "MODALITY/range": "values that are far from any that make sense",
    "MODALITY/dtype": "an array of something else than numbers",
    "audio/format": "a format that is not read (MP4, AAC, WMA, …); `ffmpeg -i FILE out.flac` makes one that is",
    "audio/no-length": "no header states its length, and it cannot be read to its end",
    "image/not-an-image": "no picture: a page of HTML, an array, a text",
    "image/format": "a picture or a document of a format that is not read: write it as PNG, TIFF or JPEG",
    "points/not-npy": "no .npy array",
    "points/shape": "a cloud is (P, 3) or (P, 6)",
    "points/colour": "colours are from 0 to 1",
    "MODALITY/non-finite": "NaN or infinity",
    "MODALITY/not-utf8": "text is UTF-8",
    "MODALITY/not-text": "a caption is a string, or a list of strings",
}
WARNINGS = {
    "shard/no-end": "the end mark of a tar is missing: it may have been cut between two members",
    "shard/not-adjacent": "a sample's members are not neighbours; other readers make two samples of it",
    "sample/no-modality": "no member of any modality",
    "sample/shadowed": "a member that differs from another only in its suffix, and is never used",
    "member/pickle": "pickles can run code; they are never opened here, but other readers open them",
    "image/flat": "a single colour",
    "image/tiny": "fewer than 32 pixels on the short side",
    "image/low-range": "it has more than 8 bits and uses the lowest part of their range alone, so it decodes nearly "
    "black; levels of the image preprocess, or --image-levels of a build, say its range",
    "image/suffix": "its content is of another format than its name says",
    "audio/suffix": "its content is of another format than its name says",
    "audio/silent": "no sample is louder than -80 dB",
    "audio/clipped": "more than 1 in 1000 samples stand at full scale, three or more in a row",
    "audio/short": "less than 25 ms: shorter than one frame of a spectrogram",
    "audio/offset": "the wave's mean is far from zero",
    "audio/odd-rate": "another sample rate than the other members, or than --rate",
    "points/colour-missing": "its colours are in a file that could not be had when the shards were made; it has none",
    "points/few": "fewer than 64 points",
    "points/identical": "all points are the same",
    "points/line": "all points are on a line",
    "points/planar": "all points are in a plane",
    "points/repeated": "fewer than half of the points are distinct",
    "text/mojibake": "it holds the replacement character: it was decoded wrongly once",
    "text/control": "it holds control characters",
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
    "image/animated": "only the first picture of an animation is used",
    "image/pages": "only the first page of a TIFF is used",
    "image/own-range": "floats beyond 0 to 1 without a stated range: each picture is scaled by its own; levels of the "
    "image preprocess, or --image-levels of a build, say one for all",
    "image/narrow": "more than 8 times as long as wide; its ends are cut off",
    "audio/channels": "another number of channels than most; the mean of the channels is used",
    "audio/open-ended": "no header states its length: it is read to its end, and that it was cut would not be seen",
    "points/dropped": "points or faces that are not finite were left out when the shards were made",
    "points/colour-mixed": "a cloud without colour among coloured ones, or the other way round",
    "text/long": "more than 75 words: CLIP's 77 tokens do not hold it",
    "text/duplicate": "the same caption as an earlier row's",
    "label/missing": "no label, where others have one",
    "label/rare": "a class with a single sample",
    "label/absent": "a class of manifest.json without a sample",
    "MODALITY/missing": "no row of a modality that others have",
    "MODALITY/blank": "a caption without a word: a hole",
}
_tables: dict[Severity, dict[str, str]] = {"error": ERRORS, "warning": WARNINGS, "note": NOTES}


def severity(reason: str) -> Severity:
    """Return "error" (counts against the budget), "warning" or "note".

    A reason without a line is an error, except for ``ignored/…``, a note.
    """
    found = _line(reason)
    return found[0] if found else "note" if reason.startswith("ignored/") else "error"


def meaning(reason: str) -> str:
    """Return the meaning of a reason in one line, or "" where its name is enough."""
    found = _line(reason)
    return (
        found[1] if found else "its suffix is not one that the modality reads" if reason.startswith("ignored/") else ""
    )


def _line(reason: str) -> tuple[Severity, str] | None:
    for name in (reason, "MODALITY/" + reason.partition("/")[2]):  # the exact line before the general one
        for kind, table in _tables.items():
            if name in table:
                return kind, table[name]
    return None
