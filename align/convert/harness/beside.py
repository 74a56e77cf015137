"""mteb's scores of tasks, with those of ``align.evaluate`` beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from warnings import catch_warnings, simplefilter

from align.convert.harness.model import Harness


class Line(NamedTuple):
    """One score of a task. ours: align's own, or None where it has no such score. rule: of a search, else ""."""

    task: str
    score: str
    theirs: float
    ours: float | None
    rule: str


class Measured(NamedTuple):
    """Scores of tasks, and lines on how they differ from align's."""

    lines: list[Line]
    notes: list[str]


class Unloadable(ValueError):
    """A task whose data mteb cannot load."""


def find_tasks(names: Sequence[str]) -> list[Any]:
    """Return mteb's tasks of these names. Raises ValueError, with a near name, for one that it has not."""
    import mteb

    found = []
    for name in names:
        try:
            found.append(mteb.get_task(name))
        except KeyError as error:
            said = str(error.args[0]).removeprefix("KeyError: ")
            raise ValueError(f"mteb has no task {name!r}: {said}") from None
    return found


def find_missing(harness: Harness, task: Any) -> list[str]:
    """Return the modalities for want of which a task cannot be run, sorted.

    A retrieval task needs one of each side's, any other task all of them.
    """
    from mteb.abstasks import AbsTaskRetrieval
    from mteb.types import PromptType

    have = set(harness.model.modalities)
    sides = [set(task.metadata.modalities)]
    if isinstance(task, AbsTaskRetrieval):
        sides = [set(task.metadata.get_modalities(side)) for side in PromptType]
        return sorted(set().union(*(side for side in sides if side and not side & have)))
    return sorted(sides[0] - have)


def measure(
    harness: Harness,
    tasks: Sequence[Any],
    folder: Path | None,
    ours: Mapping[str, float] | None = None,
    *,
    batch: int = 32,
    say: Callable[[str], None] = lambda _: None,
) -> Measured:
    """Run tasks of mteb, which writes its results below ``folder``, or nowhere for None.

    Results of mteb's own tasks that are there, of the same model and data, are taken as they are. Tasks of shards run
    each time.

    Args:
        ours: scores of ``align.evaluate`` of the same shards.
        batch: inputs that are embedded at a time.
        say: is called with each task's name.

    Raises Unloadable for a task whose data mteb cannot load.
    """
    import mteb
    from datasets import disable_progress_bars
    from sklearn.exceptions import UndefinedMetricWarning

    disable_progress_bars()
    cache = None if folder is None else mteb.ResultCache(folder)
    lines: list[Line] = []
    notes: dict[str, list[str]] = {}
    for task in tasks:
        name = task.metadata.name
        say(name)
        _name_failure(task)
        options: dict[str, Any] = {"encode_kwargs": {"batch_size": batch, "show_progress_bar": False}}
        options["overwrite_strategy"] = "always" if hasattr(task, "ours") else "only-missing"
        with catch_warnings():
            simplefilter("ignore", UndefinedMetricWarning)  # a class that is never predicted has no precision
            found = mteb.evaluate(harness, task, cache=cache, co2_tracker=False, show_progress_bar=False, **options)
        searched = harness.searched.get(name)
        rule = searched.how if searched else ""
        for scores in (one for result in found.task_results for split in result.scores.values() for one in split):
            lines += _list_scores(task, scores, ours or {}, rule)
        if blank := harness.blank.pop(name, 0):
            note = f"texts without a character, which no tower reads, are rows of zeros: {blank:,}"
            notes.setdefault(note, []).append(name)
        for note in getattr(task, "notes", ()):
            notes.setdefault(note, []).append(name)
        if searched and searched.tied:
            note = (
                f"{searched.tied:,} of {searched.queries:,} queries have equal scores among their best: mteb orders "
                "these by the documents' names, and in align a tie never helps"
            )
            notes.setdefault(note, []).append(name)
    return Measured(lines, [f"{', '.join(names)}: {note}" for note, names in notes.items()])


def _name_failure(task: Any) -> None:
    """Let a task raise Unloadable where its data cannot be loaded, whatever library fails below it."""
    load = task.load_data

    def attempt(*args: Any, **options: Any) -> None:
        try:
            load(*args, **options)
        except Exception as error:
            why = " ".join(str(error).split()) or type(error).__name__
            raise Unloadable(f"task {task.metadata.name}: its data cannot be loaded ({why[:200]})") from error

    task.load_data = attempt


def _list_scores(task: Any, scores: Mapping[str, Any], ours: Mapping[str, float], rule: str) -> Iterator[Line]:
    """Yield the main score of a task, and the others that ``align.evaluate`` has too."""
    equal: Mapping[str, str] = getattr(task, "ours", {})
    main = task.metadata.main_score
    for name in dict.fromkeys((main, *equal)):
        if name in scores:
            yield Line(task.metadata.name, name, float(scores[name]), ours.get(equal.get(name, "")), rule)
