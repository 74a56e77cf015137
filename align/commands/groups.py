"""Groups of options: each dataclass is a section of ``--help``, and each of its fields an option.

The first line of a docstring is the section's title, its paragraphs stand below the title.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, final

from align.commands.errors import Refused, nearest
from align.commands.named import split
from align.commands.pairs import pairs, two_numbers

if TYPE_CHECKING:
    from align.media.recode import Recode
    from align.model import JointModel


@final
@dataclass(frozen=True)
class Weights:
    """weights

    Args:
        checkpoint: the checkpoint of a run: best, last, or a step
        allow: packages beside align, separated by commas, whose classes the model's config may name
    """

    checkpoint: str = "best"
    allow: str | None = None

    def load(self, model: str) -> JointModel:
        """Load a model folder, a run folder, a model of the hub, or a published one by LAYOUT:SOURCE."""
        from align import load

        return load(self.locate(model), allow=self.list_allowed(), checkpoint=self.checkpoint)

    def list_allowed(self) -> list[str]:
        """Return the packages beside align whose classes a config may name."""
        return split(self.allow)

    def locate(self, model: str) -> Path:
        """Return the model's folder. A published model is imported, and its origin and licence printed."""
        from align.checkpoint.source import cached_folder, is_published, locate

        fresh = is_published(model) and not (cached_folder(*model.split(":", 1)) / "model.json").is_file()
        folder = locate(model, self.checkpoint)
        if fresh:
            from align.files import read_json
            from align.model.origin import describe_parts

            for line in describe_parts(read_json(folder / "model.json").get("parts", {})):
                print(line, file=sys.stderr)
        return folder


@final
@dataclass(frozen=True)
class Query:
    """query

    Given together, these options are the parts of one query. Each part has a weight. A part with minus asks for samples
    that are less like it.

    Args:
        text: a text
        image: a file
        audio: a file
        points: a file
        with_: files of other modalities: NAME=FILE, separated by commas
        minus_text: a text to be less like
        minus_image: a file to be less like
        minus_audio: a file to be less like
        minus_points: a file to be less like
        minus_with: files of other modalities to be less like: NAME=FILE
        weights: weights of parts that are not 1, as in image=2,minus-text=0.5
        words: words to look for in the captions, joined with the other parts by rank. Alone, they are the whole query
        hybrid: look for the text in the captions too
        like: the key of a sample of the index, whose own rows ask
    """

    text: str | None = None
    image: str | None = None
    audio: str | None = None
    points: str | None = None
    with_: str | None = None
    minus_text: str | None = None
    minus_image: str | None = None
    minus_audio: str | None = None
    minus_points: str | None = None
    minus_with: str | None = None
    weights: str = ""
    words: str | None = None
    hybrid: bool = False
    like: str | None = None

    def list_parts(self) -> list[tuple[str, str, float]]:
        """Return (modality, text or file, weight) of each part, those with a minus last.

        Raises ValueError for a weight that is no number, or of no part, with the nearest name.
        """
        plus = {"text": self.text, "image": self.image, "audio": self.audio, "points": self.points}
        minus = {
            "text": self.minus_text,
            "image": self.minus_image,
            "audio": self.minus_audio,
            "points": self.minus_points,
        }
        named = {m: x for m, x in plus.items() if x is not None} | pairs(self.with_ or "", "--with")
        named |= {f"-{m}": x for m, x in minus.items() if x is not None}
        named |= {f"-{m}": x for m, x in pairs(self.minus_with or "", "--minus-with").items()}
        given = {name.replace("minus-", "-", 1): x for name, x in pairs(self.weights, "--weights").items()}
        for name in given:
            if name not in named:
                raise Refused(f"--weights {name}: the query has no such part; {nearest(name, named)}", code=2)
        return [
            (m.removeprefix("-"), x, (-1 if m.startswith("-") else 1) * _weight(m, given.get(m, "1")))
            for m, x in named.items()
        ]


def _weight(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise Refused(f"--weights {name}={text}: a weight is a number, as in image=2,text=0.5", code=2) from None


@final
@dataclass(frozen=True)
class Calibration:
    """threshold

    Args:
        threshold: the least score of a hit: a number, or calibrated, for the one that --calibrate stored
        calibrate: labelled shards or patterns, separated by commas, on which to choose the least score that has the
            precision of --precision. It is printed, and stored in the index where that can be written
        precision: the share of right hits among those that reach the threshold, from 0 to 1
        by: the modalities that ask, separated by commas: of the samples of --calibrate (default text), or the rows of
            the sample of --like (default: the modality searched among)
        hit: the rule by which a hit of --calibrate is right. Default: group where samples have groups, else sample
        attribute: the attribute of the labels that --hit label means, where there are several
    """

    threshold: str | None = None
    calibrate: str | None = None
    precision: float | None = None
    by: str | None = None
    hit: Literal["group", "sample", "label"] | None = None
    attribute: str | None = None

    def least(self) -> float | Literal["calibrated"] | None:
        """Return the threshold of a search. Ends the command where it is neither a number nor the word."""
        if self.threshold is None or self.threshold == "calibrated":
            return self.threshold
        try:
            return float(self.threshold)
        except ValueError:
            raise Refused(f"--threshold is a number or calibrated; got {self.threshold!r}", code=2) from None


@final
@dataclass(frozen=True)
class Protocol:
    """protocol

    Args:
        templates: templates of class prompts: one, a list '["{}", "a {}"]', a file with one a line, or for each
            attribute '{"shape": ["a {}"]}'
        classes: class names instead of those of the shards: a list '["a", "b"]', a file with one name a line, names
            with commas, '{"label": "name in prompts", ...}', or for each attribute '{"shape": [...]}'
        hit: the rule by which a retrieved row counts. With caption, equal texts are one answer. Default: group where
            samples have groups, else sample
        attribute: the attribute of the labels that --hit label and --classes mean, where there are several
    """

    templates: str | None = None
    classes: str | None = None
    hit: Literal["group", "sample", "label", "caption"] | None = None
    attribute: str | None = None


@final
@dataclass(frozen=True)
class Tables:
    """tables

    Args:
        modalities: the columns that are modalities, separated by commas
        columns: columns under other names, as in caption=text,file=image. An empty name leaves a column out: notes=
        literal: modalities whose cells are the text itself and not a file, separated by commas
        separator: the character between the cells of a .csv or .tsv, such as ';' or '|', or the word tab. Default: a
            comma in a .csv, a tab in a .tsv
    """

    modalities: str = "image,audio,points,text"
    columns: str = ""
    literal: str = "text"
    separator: str | None = None

    def settings(self) -> dict[str, Any]:
        """Return the arguments of ``align.curation.build``."""
        return {
            "modalities": split(self.modalities),
            "columns": pairs(self.columns, "--columns"),
            "literal": split(self.literal),
            "separator": self.separator,
        }


@final
@dataclass(frozen=True)
class Reencoding:
    """re-encoding

    Without these options files are stored byte for byte, and pictures and sounds are not decoded.

    Args:
        image_size: scale larger images down to this many pixels on the short side. They become 8-bit RGB, upright
        image_format: write all images in this format
        image_quality: quality of jpeg and webp, 1 to 100. Default: 90 where an image is written anew
        image_levels: the values of black and white in images of more than 8 bits, which are written with 8: 0,4095 for
            12 bits
        audio_format: write all sounds in this format, mono
        sample_rate: write all sounds at this rate in Hz, as flac where no format is given
        points_dtype: write all point clouds in this precision
    """

    image_size: int | None = None
    image_format: Literal["jpeg", "png", "webp"] | None = None
    image_quality: int | None = None
    image_levels: str = ""
    audio_format: Literal["flac", "ogg", "opus"] | None = None
    sample_rate: int | None = None
    points_dtype: Literal["float16", "float32"] | None = None

    def recode(self) -> Recode:
        """Return the settings as ``align.curation.build`` takes them. Raises ValueError where they do not fit."""
        from align.media.recode import Recode

        levels = two_numbers(self.image_levels, "--image-levels")
        return Recode(**{**asdict(self), "image_levels": levels})


@final
@dataclass(frozen=True)
class Limits:
    """limits

    Args:
        per_shard: samples that a shard holds at most
        shard_mb: megabytes that a shard holds at most
        max_bad: the share of samples with something unreadable above which the build stops. 1: it never stops
    """

    per_shard: int = 1000
    shard_mb: float | None = None
    max_bad: float = 0.001
