"""Groups of options: each dataclass is a section of ``--help``, and each of its fields an option.

The first line of a docstring is the section's title, its paragraphs stand below the title.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, final

from align.commands.named import split
from align.commands.pairs import pairs, two_numbers

if TYPE_CHECKING:
    import torch

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

    def load(self, model: str, *, device: torch.device | None = None, dtype: str | None = None) -> JointModel:
        """Load a model folder, a run folder, a model of the hub, or a published one by LAYOUT:SOURCE."""
        from align import load

        more = {"checkpoint": self.checkpoint, "device": device, "dtype": dtype}
        return load(self.locate(model), allow=self.list_allowed(), **more)

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
class Protocol:
    """protocol

    Args:
        templates: templates of class prompts: one, a list '["{}", "a {}"]', a file with one a line, or for each
            attribute '{"shape": ["a {}"]}'
        classes: class names instead of those of the shards: a list '["a", "b"]', a file with one name a line, names
            with commas, '{"label": "name in prompts", ...}', or for each attribute '{"shape": [...]}'. A list of names
            of a label are synonyms, and each of them is asked with
        descriptions: whole prompts instead of the templates, for the labels that they name: '{"label": ["text", ...]}',
            for each attribute '{"shape": {"label": [...]}}', or a file with this JSON. A {} in a text is the class name
        hit: the rule by which a retrieved row counts. With caption, equal texts are one answer. Default: group where
            samples have groups, else sample
        attribute: the attribute of the labels that --hit label, --classes and --descriptions mean, where there are
            several
    """

    templates: str | None = None
    classes: str | None = None
    descriptions: str | None = None
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

    modalities: str = "image,video,audio,points,text"
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


@final
@dataclass(frozen=True)
class Sharing:
    """sharing

    Args:
        executor: ray runs the parts on a Ray cluster that shares the folders of the model, the shards and the cache
            (extra ray)
        ray: the address of the cluster, as ray.init takes it. Default: a cluster of this machine alone
        dashboard: start Ray's dashboard with a cluster of this machine
    """

    executor: Literal["processes", "ray"] = "processes"
    ray: str | None = None
    dashboard: bool = False

    def check(self) -> None:
        """End the command for options of Ray without it, and where it is not installed."""
        from align.commands.errors import Refused
        from align.embedding.features.cluster import set_variables
        from align.extras import has_part, pip_install

        if self.executor != "ray" and (self.ray is not None or self.dashboard):
            raise Refused("--ray and --dashboard are for --executor ray", code=2)
        if self.executor != "ray":
            return
        set_variables(self.ray is None)
        if not has_part("ray", "remote"):
            raise Refused(f"--executor ray needs Ray: {pip_install('ray')}")
