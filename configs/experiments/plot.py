"""The experiments' tables as plots: `python configs/experiments/plot.py` writes a PNG beside each CSV."""

from __future__ import annotations

import csv
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

from which_loss_losses import LOSSES

HERE = Path(__file__).parent
INK, LINES = "#222222", ["#0b6e99", "#d1495b", "#6a994e", "#8d5fd3", "#e09f3e", "#555555"]


def rows(name: str) -> list[dict[str, str]]:
    """The rows of a table; none where it is not there."""
    path = HERE / name
    return list(csv.DictReader(path.open(newline=""))) if path.is_file() else []


def axes(title: str, wide: float = 6.4) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(wide, 4.2), layout="constrained")
    ax.set_title(title, loc="left", fontsize=11, color=INK)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    return figure, ax


def xor() -> None:
    table = rows("xor.csv")
    figure, ax = axes("XOR: how often b is found from (a, c), of 32")
    ps = sorted({float(r["p"]) for r in table})
    ax.plot(ps, [p + (1 - p) / 32 for p in ps], color="#bbbbbb", linewidth=5, label="ceiling")
    published = {float(r["p"]): float(r["published"]) for r in table if r["published"]}
    ax.plot(list(published), list(published.values()), "x", color=INK, label="published code")
    for colour, kind in zip(LINES, dict.fromkeys(r["negatives"] for r in table), strict=False):
        found = [(float(r["p"]), float(r["accuracy"])) for r in table if r["negatives"] == kind]
        name = "pairwise InfoNCE" if kind == "pairwise" else f"Symile, {kind} negatives"
        ax.plot(*zip(*found, strict=True), "o-", markersize=4, color=colour, label=name)
    ax.set(xlabel="p, how often c is a xor b", ylabel="accuracy", ylim=(0, 1.03))
    ax.legend(frameon=False)
    figure.savefig(HERE / "xor.png", dpi=120)


def bars(groups: dict[str, dict[str, list[float]]], title: str, chance: float, path: Path) -> None:
    """groups: name -> bar -> the scores of its seeds. The error bar is one standard deviation."""
    figure, ax = axes(title, wide=8.4)
    names = list(dict.fromkeys(bar for group in groups.values() for bar in group))
    wide = 0.8 / max(len(groups), 1)
    for number, (group, found) in enumerate(groups.items()):
        places = [i + (number - (len(groups) - 1) / 2) * wide for i, name in enumerate(names) if name in found]
        scores = [found[name] for name in names if name in found]
        means = [statistics.mean(s) for s in scores]
        errors = [statistics.stdev(s) if len(s) > 1 else 0.0 for s in scores]
        ax.bar(places, means, wide * 0.92, yerr=errors, color=LINES[number], label=group, capsize=3, ecolor=INK)
        for x, s in zip(places, scores, strict=True):
            ax.plot([x] * len(s), s, ".", color=INK, markersize=3)
    ax.axhline(chance, color=INK, linewidth=0.8, linestyle=":")
    ax.set_xticks(range(len(names)), [n.replace("+", "\n+ ").replace(">", "\nthen ") for n in names])
    ax.set(ylabel="accuracy", ylim=(0, 1.03))
    if len(groups) > 1:
        ax.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(groups), borderaxespad=0)
    figure.savefig(path, dpi=120)


def collected(table: list[dict[str, str]], group: str, bar: str, score: str, words: str) -> Any:
    groups: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for r in table:
        groups[words.format(r[group])][r[bar]].append(float(r[score]))
    return groups


def frozen() -> None:
    """Means of frozen_real.csv over folds and seeds, a bar a way to fit, with the chance of each figure."""
    table = rows("frozen_real.csv")
    ways = list(dict.fromkeys(r["how"] for r in table))
    names = list(dict.fromkeys(r["figure"] for r in table))
    figure, ax = axes("Frozen towers bound through words: no picture and sound were a pair", wide=13)
    for number, way in enumerate(ways):
        found = {n: [float(r["value"]) for r in table if (r["how"], r["figure"]) == (way, n)] for n in names}
        places = [i + (number - (len(ways) - 1) / 2) * 0.8 / len(ways) for i, n in enumerate(names) if found[n]]
        means = [statistics.mean(found[n]) for n in names if found[n]]
        ax.bar(places, means, 0.74 / len(ways), color=LINES[number], label=way)
    for i, name in enumerate(names):
        chance = statistics.mean(float(r["chance"]) for r in table if r["figure"] == name)
        ax.plot([i - 0.45, i + 0.45], [chance] * 2, color=INK, linewidth=1, linestyle=":")
    cut = {", ": ",\n", " → ": "\n→ ", " by words": "\nby words", "unseen ": "unseen\n"}
    for old, new in cut.items():
        names = [name.replace(old, new) for name in names]
    ax.set_xticks(range(len(names)), names, fontsize=8)
    ax.set(ylabel="score; dotted: chance", ylim=(0, 1.03))
    figure.legend(*ax.get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=len(ways))
    figure.savefig(HERE / "frozen_real.png", dpi=110)


def main() -> None:
    if rows("xor.csv"):
        xor()
    if table := rows("xor_negatives.csv"):
        groups = collected(table, "p", "negatives", "accuracy", "p = {}")
        bars(groups, "XOR: which negatives, batches of 128", 1 / 32, HERE / "xor_negatives.png")
    if table := rows("sum.csv"):  # docs/which-loss.md has the other losses
        table = [row for row in table if row["objective"] not in LOSSES]
        groups = collected(table, "spread", "objective", "score", "spread {}")
        bars(groups, "Digits: the word of a + b from an image of a and a voice saying b", 0.1, HERE / "sum.png")
    if table := rows("digits.csv"):
        groups = collected(table, "task", "objective", "score", "{}")
        bars(groups, "Digits: mean class recall@1 over the ordered pairs", 0.1, HERE / "digits.png")
    if rows("frozen_real.csv"):
        frozen()


if __name__ == "__main__":
    main()
