"""``align index delete`` removes samples from an index, ``align index compact`` their rows from the disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from align.commands.errors import Refused, nearest
from align.commands.index_backend import say_stale
from align.commands.sizes import count_text, size

if TYPE_CHECKING:
    from align.search.local import LocalIndex

MANY = 20_000  # samples up to which a wrong key gets the nearest right one


def delete(index: str, keys: list[str] = [], /, *, where: str | None = None) -> None:  # noqa: B006  it is only read
    """Delete samples from an index, by their keys or by a filter

    Every sample of a key is deleted, from every shard and folder. A key that is not there ends the command before
    anything is deleted. A deleted sample stays deleted until its shard or file changes. Its rows stay on the disk until
    align index compact.

    Args:
        index: the index folder
        keys: keys of samples
        where: delete the samples that this filter lets through: 'year < 2000 and label == "dog"', or JSON
    """
    from align.search.building.build import check_index
    from align.search.conditions import read_filter
    from align.search.local import LocalIndex
    from align.search.where import Compare

    if bool(keys) == (where is not None):
        raise Refused("say what to delete: keys, or a filter with --where, not both", code=2)
    try:
        tree = None if where is None else read_filter(where)
    except ValueError as error:
        raise Refused(f"--where: {error}", code=2) from None
    check_index(Path(index))
    with LocalIndex.open(index, write=True) as opened:
        if tree is not None:
            numbers = opened.numbers(None, tree).tolist()
        else:
            found = {key: opened.numbers(None, Compare("key", "eq", key)).tolist() for key in dict.fromkeys(keys)}
            for key, some in found.items():
                if not some:
                    raise Refused(f"{index} has no sample {key!r}; {_near(opened, key)}; nothing was deleted")
            numbers = [number for some in found.values() for number in some]
        if numbers:
            with opened.change() as change:
                change.remove(numbers)
        print(f"{index}: {count_text(len(numbers), 'sample')} deleted, {opened.count()} left")
    say_stale(Path(index))


def compact(index: str, /) -> None:
    """Remove the rows of deleted samples from the disk, and join small files

    Numbers of samples stay, and whoever reads the index goes on.

    Args:
        index: the index folder
    """
    from align.search.building.build import check_index
    from align.search.local import LocalIndex

    check_index(Path(index))
    before = size_of(Path(index))
    with LocalIndex.open(index, write=True) as opened:
        gone = opened.compact()
    say_stale(Path(index))
    after = size_of(Path(index))
    freed = f"{size(before)} -> {size(after)}" if after < before else f"{size(after)}, too few to give room back"
    print(f"{index}: {count_text(gone, 'row')} removed, {freed}")


def size_of(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _near(opened: LocalIndex, key: str) -> str:
    if opened.count() > MANY:
        return "align index show lists its sources"
    keys = sorted({item.key for item in opened.items(opened.numbers().tolist())})
    return nearest(key, keys) if len(keys) < 10 else _closest(key, keys)


def _closest(key: str, keys: list[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(key, keys, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"its keys are like {keys[0]!r}"
