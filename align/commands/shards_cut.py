"""``align shards split``, ``merge`` and ``filter`` write samples to other shards and keep their bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from align.commands.devices import Placing
from align.commands.dropped import print_dropped
from align.commands.groups import Weights
from align.commands.sizes import count_text

if TYPE_CHECKING:
    from align.curation.cut.expression import Pair
    from align.data import Shards


def split(
    shards: list[str],
    out: str,
    /,
    *,
    parts: str,
    by: Literal["key", "group", "label"] = "key",
    seed: int = 0,
    per_shard: int = 1000,
    members: str = "",
    workers: int = 0,
) -> None:
    """Cut shards into parts, such as train, val and test

    The parts are OUT/train-000000.tar, OUT/val-000000.tar, ... and OUT/manifest.json describes them. Every member keeps
    its bytes, and every part lists the classes of all parts. --by key assigns a sample by the hash of its key, so it
    stays in its part when others are added. --by group does the same with the group of its json, so no group is cut.
    --by label makes the shares within each label exact to one sample.

    A member that cannot be read is left out, counted, and listed in OUT/PART-bad.jsonl. A split that was killed
    resumes when the same command is given again.

    Args:
        shards: shard files, patterns such as 'all/*.tar', or folders: all shards in them
        out: the folder for the parts
        parts: names and shares that sum to 1, as in train=0.8,val=0.1,test=0.1
        by: the property of a sample that decides its part
        seed: the seed of the cut: another seed gives other parts
        per_shard: samples that a shard holds at most. Shards are alike in size
        members: members under other names: label=cls reads the label from .cls
        workers: processes that copy
    """
    from align.commands.pairs import mapping, pairs
    from align.commands.progress import progress
    from align.commands.shown import expand_folders
    from align.curation import split_shards
    from align.data.places.patterns import typeable

    with progress("samples") as say:
        written, dropped = split_shards(
            expand_folders(shards),
            out,
            pairs(parts, "--parts"),
            by=by,
            seed=seed,
            per_shard=per_shard,
            members=mapping(members),
            workers=workers,
            progress=say,
        )
    total = sum(written.values())
    for name, n in written.items():
        print(f"{typeable(out, f'{name}-*.tar')}: {count_text(n, 'sample')} ({n / total:.1%})")
    print_dropped(dropped)


def merge(
    shards: list[str],
    out: str,
    /,
    *,
    split: str = "train",
    duplicates: Literal["refuse", "rename"] = "refuse",
    per_shard: int = 1000,
    members: str = "",
    workers: int = 0,
) -> None:
    """Join several sets of shards, one after the other

    Each of SHARDS is a set: a file, a pattern or a folder. Members keep their bytes. The classes of the sets become one
    list. A label that is a number, and would mean another class in that list, is written as the name of its class.
    Groups of the same name become one. A key that comes twice is refused, or renamed: the second becomes KEY-2, the
    third KEY-3.

    A member that cannot be read is left out, counted, and listed in OUT/SPLIT-bad.jsonl. A merge that was killed
    resumes when the same command is given again.

    Args:
        shards: the sets: shard files, patterns, or folders: all shards in them
        out: the folder for the shards
        split: the name of the new shards
        duplicates: refuse the merge where a later sample has the key of an earlier one, or rename the later one
        per_shard: samples that a shard holds at most. Shards are alike in size
        members: members under other names: label=cls reads the label from .cls
        workers: processes that copy
    """
    from align.commands.pairs import mapping
    from align.commands.progress import progress
    from align.commands.shown import expand_folders
    from align.curation import merge_shards
    from align.data.places.patterns import typeable

    with progress("samples") as say:
        samples, changed, dropped = merge_shards(
            expand_folders(shards),
            out,
            split=split,
            duplicates=duplicates,
            per_shard=per_shard,
            members=mapping(members),
            workers=workers,
            progress=say,
        )
    print(f"{typeable(out, f'{split}-*.tar')}: {count_text(samples, 'sample')} of {count_text(len(shards), 'set')}")
    if changed["renamed"]:
        print(f"renamed: {changed['renamed']} keys that an earlier sample has")
    if changed["relabelled"]:
        print(f"relabelled: {changed['relabelled']} numbers that mean another class in the merged list, by its name")
    print_dropped(dropped)


def filter_(
    shards: list[str],
    out: str,
    /,
    *,
    where: str,
    model: str | None = None,
    split: str | None = None,
    per_shard: int = 1000,
    members: str = "",
    batch: int = 64,
    workers: int = 0,
    media: str = "",
    placing: Placing,
    weights: Weights,
) -> None:
    """Keep the samples that meet a condition

    The condition can name the keys of a sample's json and these columns: has_image and bytes_image (the same for every
    modality), width, height, seconds, sample_rate, points, words, text, key, label, group, weight. A key of the json
    hides a column of the same name. A condition has and, or, not, comparisons, in, arithmetic, len(), abs(), min(),
    max(), round(), lower(), and NAME["key"] for a value inside a key. Nothing else is run.

    With --model, a condition can compare the embeddings of two modalities of a sample. cosine(image, text) > 0.2 is a
    threshold on their cosine, from -1 to 1. score(image, text) is the number that search ranks by: the trained
    objective where one of its terms joins the two (scale x cosine + bias for a pairwise term), else the cosine. The
    command prints the rule of each score(). Of several captions or views the best two count.

    A sample is dropped where it lacks a column of the condition. Members keep their bytes. The command prints how many
    samples were kept, and why the others were not. A filter that was killed judges the samples again, and resumes
    writing when the same command is given again.

    Args:
        shards: shard files, patterns such as 'all/*.tar', or folders: all shards in them
        out: the folder for the kept samples
        where: the condition, as in "width >= 256 and label in ['cat', 'dog'] and cosine(image, text) > 0.2"
        model: a model folder, a run folder, owner/name on the hub, or LAYOUT:SOURCE (see align import), for score()
            and cosine()
        split: the name of the new shards. Default: that of the shards that the samples come from
        per_shard: samples that a shard holds at most. Shards are alike in size
        members: members under other names: text=json:caption reads text from caption in the json
        batch: samples that the model sees at a time
        workers: processes that decode for the model, and that copy
        media: kinds of file beside align's own, by import path, separated by commas: my.track.Track
    """
    from align.commands.named import media as named_media
    from align.commands.pairs import mapping
    from align.commands.progress import progress
    from align.commands.shown import expand_folders
    from align.curation import filter_shards
    from align.data.places.patterns import typeable

    def scores(opened: Shards, wanted: Sequence[Pair]) -> dict[Pair, list[float | None]]:
        from align.evaluation.pairs import pair_scores
        from align.scoring import choose

        loaded = placing.load(weights, str(model))
        for pair in wanted:
            if pair.function == "score":
                print(f"{pair}: by {choose(loaded.terms, [pair.a], pair.b)}")
        with progress("scoring") as say:
            return pair_scores(loaded, opened, wanted, batch=batch, workers=workers, progress=say)

    known = named_media(media)
    with progress("samples") as say:
        kept, dropped = filter_shards(
            expand_folders(shards),
            out,
            where,
            split=split,
            score=scores if model is not None else None,
            per_shard=per_shard,
            members=mapping(members),
            workers=workers,
            progress=say,
            media=known,
        )
    total = sum(kept.values()) + sum(n for reason, n in dropped.items() if not reason.startswith("member/"))
    for name, n in kept.items():
        print(f"{typeable(out, f'{name}-*.tar')}: {count_text(n, 'sample')} kept")
    print(f"kept {sum(kept.values())} of {total}")
    print_dropped(dropped)
