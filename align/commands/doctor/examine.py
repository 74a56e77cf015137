"""The whole examination, as plain data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, final

from align.commands.doctor.machine import HUB_SECONDS, look_at_cache, look_at_process
from align.commands.doctor.packages import Package, judge, judge_python, probe_packages, read_requirements
from align.commands.doctor.probe import Answer, Probe, ask


@final
@dataclass(frozen=True)
class Extra:
    """An extra. absent: names of its packages that are not installed. install: the command that brings it."""

    name: str
    packages: Sequence[Package]
    absent: Sequence[str]
    install: str


@final
@dataclass(frozen=True)
class Examination:
    """Everything that was looked at.

    problems: lines about required things that do not work. notes: lines about the others.
    """

    version: str
    python: Package
    packages: Sequence[Package]
    extras: Sequence[Extra]
    gpu: Mapping[str, Any]
    media: Mapping[str, Sequence[str]]
    sqlite: str
    cache: Mapping[str, Any]
    hub: Mapping[str, Any]
    process: Mapping[str, Any]
    problems: Sequence[str]
    notes: Sequence[str]

    def as_data(self) -> dict[str, Any]:
        """Return all of it for JSON. ok: nothing that is required is broken."""
        packages = {"packages": [p._asdict() for p in self.packages], "python": self.python._asdict()}
        extras = [{**asdict(e), "packages": [p._asdict() for p in e.packages]} for e in self.extras]
        return {"ok": not self.problems, **asdict(self), **packages, "extras": extras}


def examine(progress: Callable[[int, int], None] = lambda done, total: None) -> Examination:
    """Look at packages, GPU, media, cache, hub and process."""
    from align import __version__

    python, needs = read_requirements()
    imports = probe_packages(needs)
    trials = _list_trials()
    probes = [
        *imports.values(),
        Probe("align.commands.doctor.machine:look_at_gpu"),
        Probe("align.commands.doctor.machine:look_at_sqlite"),
        Probe("align.commands.doctor.machine:look_at_hub", patience=HUB_SECONDS),
        *(Probe("align.commands.doctor.probe:try_format", (i,)) for i in range(len(trials))),
    ]
    answers = []
    for done, answer in enumerate(ask(probes), 1):
        answers.append(answer)
        progress(done, len(probes))
    imported = dict(zip(imports, answers[: len(imports)], strict=True))
    gpu, sqlite, hub = answers[len(imports) : len(imports) + 3]
    packages = [judge(need, imported[need.name]) for need in needs[""]]
    judged, problems, notes = judge_python(python), [], []
    for package in (judged, *packages):
        _sort_out(package, problems, notes)
    extras = [_judge_extra(name, listed, imported) for name, listed in needs.items() if name]
    for package in {p.name: p for extra in extras for p in extra.packages if p.state not in ("ok", "missing")}.values():
        notes.append(f"{package.problem}; pip install '{package.requirement}'")
    problems += [f"{sqlite.error}; use a Python with a newer SQLite"] if sqlite.error else []
    media, broken = _judge_media(trials, answers[len(imports) + 3 :])
    cache, process = look_at_cache(), look_at_process()
    if cache["error"]:
        problems.append(f"the cache folder cannot be written ({cache['error']}); ALIGN_CACHE=FOLDER names another")
    return Examination(
        __version__,
        judged,
        packages,
        extras,
        gpu.value or {"devices": [], "reason": gpu.error},
        media,
        "" if sqlite.error else sqlite.value["version"],
        cache,
        hub.value or {"state": "unreachable", "reason": hub.error},
        process,
        problems + broken,
        notes,
    )


def _list_trials() -> list[tuple[str, str, str]]:
    """Return (medium, suffix, package) of each format, from the other process: media need numpy."""
    (answer,) = ask([Probe("align.commands.doctor.examine:name_trials")])
    return answer.value or []


def name_trials() -> list[tuple[str, str, str]]:
    """Return (medium, suffix, package) of each format that align reads."""
    from align.media.samples import list_trials

    return [(trial.medium, trial.suffix, trial.package) for trial in list_trials()]


def _sort_out(package: Package, problems: list[str], notes: list[str]) -> None:
    """Add the line of a required package to the problems or, where it works all the same, to the notes."""
    if package.state == "ok":
        return
    remedy = f"use {package.requirement}" if package.name == "Python" else f"pip install '{package.requirement}'"
    (notes if package.state == "outside" else problems).append(f"{package.problem}; {remedy}")


def _judge_extra(name: str, needs: Sequence[Any], imported: Mapping[str, Answer]) -> Extra:
    from align.extras import pip_install

    packages = [judge(need, imported[need.name]) for need in needs]
    return Extra(name, packages, [p.name for p in packages if p.state == "missing"], pip_install(name))


def _judge_media(
    trials: Sequence[tuple[str, str, str]], answers: Sequence[Answer]
) -> tuple[dict[str, list[str]], list[str]]:
    """Return medium -> suffixes that decode, and a line for each that does not."""
    media: dict[str, list[str]] = {}
    broken = [] if trials else ["no medium can be read: align.media does not import"]
    for (medium, suffix, package), answer in zip(trials, answers, strict=True):
        if answer.error:
            broken.append(f"{medium} .{suffix} is not read by {package}: {answer.error}")
        else:
            media.setdefault(medium, []).append(suffix)
    return media, broken
