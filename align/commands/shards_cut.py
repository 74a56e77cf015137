"""``align shards split``, ``merge`` and ``filter``: other shards of the same samples, their bytes untouched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

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

    OUT/train-000000.tar, OUT/val-000000.tar, ... and OUT/manifest.json; every member keeps its bytes, and every part
    knows the classes of the whole. By key: each sample goes where the hash of its key says, and stays there when others
    are added. By group: the same with the group of its json, so that no group is cut. By label: within each label the
    shares are exact to one sample.

    What cannot be read is left out, counted, and listed in OUT/PART-bad.jsonl. A split that was killed goes on where it
    was when the same command is given again.

    Args:
        shards: shard files, patterns such as 'all/*.tar', or folders: all shards in them
        out: the folder for the parts
        parts: names and shares that sum to 1, as in train=0.8,val=0.1,test=0.1
        by: what is kept together or shared out
        seed: another one gives another cut
        per_shard: samples that a shard holds at most; shards are alike
        members: names in shards that name no modality, as in label=cls
        workers: processes that copy
    """
    from align.commands.pairs import mapping, pairs
    from align.commands.progress import progress
    from align.commands.shown import within
    from align.curation import split_shards
    from align.data.places.patterns import typeable

    with progress("samples") as say:
        written, dropped = split_shards(
            within(shards),
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
    report(dropped)


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
    """Make one set of several, one after the other

    Each of SHARDS is a set: a file, a pattern or a folder. Members keep their bytes. The classes of the sets become one
    list; a label that is a number and would mean another class in it is written as the class's name. Groups of the same
    name become one. A key that comes twice is refused, or renamed: the second becomes KEY-2, the third KEY-3.

    What cannot be read is left out, counted, and listed in OUT/SPLIT-bad.jsonl. A merge that was killed goes on where
    it was when the same command is given again.

    Args:
        shards: the sets: shard files, patterns, or folders: all shards in them
        out: the folder for the shards
        split: what they are called
        duplicates: what happens to a key that an earlier sample has
        per_shard: samples that a shard holds at most; shards are alike
        members: names in shards that name no modality, as in label=cls
        workers: processes that copy
    """
    from align.commands.pairs import mapping
    from align.commands.progress import progress
    from align.commands.shown import within
    from align.curation import merge_shards
    from align.data.places.patterns import typeable

    with progress("samples") as say:
        samples, changed, dropped = merge_shards(
            within(shards),
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
    report(dropped)


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
    checkpoint: str = "best",
    allow: str | None = None,
    media: str = "",
) -> None:
    """Keep the samples that meet a condition

    The condition is over the keys of a sample's json and over what its members say: has_image, bytes_image (and so for
    every modality), width, height, seconds, sample_rate, points, words, text, key, label, group, weight; of two with
    the same name the json's counts. It has and, or, not, comparisons, in, arithmetic, len(), abs(), min(), max(),
    round(), lower() and NAME["key"], and runs nothing else. score(image, text) compares two modalities of the sample
    as search does: by the trained objective of --model where a term joins them (scale x cosine + bias for a pairwise
    one), else by the cosine. The rule is printed. A sample that lacks what the condition asks for is dropped. Members
    keep their bytes. Says how many were kept, and why others were not. A filter that was killed judges the samples
    again and goes on writing where it was when the same command is given again.

    Args:
        shards: shard files, patterns such as 'all/*.tar', or folders: all shards in them
        out: the folder for what is kept
        where: "width >= 256 and label in ['cat', 'dog'] and score(image, text) > 0.2"
        model: a model folder, a run folder, or owner/name on the hub, for score()
        split: what the shards are called; default: as those that the samples come from
        per_shard: samples that a shard holds at most; shards are alike
        members: names in shards that name no modality, as in text=json:caption
        batch: samples that the model sees at a time
        workers: processes that decode for the model, and that copy
        checkpoint: of a run: best, last, or a step
        allow: packages beside align, separated by commas, whose classes the model's config may name
        media: kinds of file beside align's own, by import path, separated by commas: my.track.Track
    """
    from align.commands.named import media as named_media
    from align.commands.pairs import mapping
    from align.commands.progress import progress
    from align.commands.shown import within
    from align.curation import filter_shards
    from align.data.places.patterns import typeable

    def scores(opened: Shards, wanted: Sequence[Pair]) -> dict[Pair, list[float | None]]:
        from align import load
        from align.commands.named import device
        from align.commands.named import split as names
        from align.evaluation.pairs import pair_scores
        from align.scoring import choose

        loaded = load(str(model), allow=names(allow), checkpoint=checkpoint).to(device())
        for pair in wanted:
            if pair.function == "score":
                print(f"{pair}: by {choose(loaded.terms, [pair.a], pair.b)}")
        with progress("scoring") as say:
            return pair_scores(loaded, opened, wanted, batch=batch, workers=workers, progress=say)

    known = named_media(media)
    with progress("samples") as say:
        kept, dropped = filter_shards(
            within(shards),
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
    report(dropped)


def report(dropped: Mapping[str, int]) -> None:
    """What is not in the new shards, and why, the most frequent first."""
    if dropped:
        print("dropped:")
    for reason, n in sorted(dropped.items(), key=lambda item: (-item[1], item[0])):
        print(f"  {n:>7}  {''.join(c if c.isprintable() else ' ' for c in reason)}")
