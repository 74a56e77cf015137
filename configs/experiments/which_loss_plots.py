"""Tables and plots of which_loss_*.csv, one a question.

python configs/experiments/which_loss_plots.py           # prints the tables of docs/which-loss.md, writes the PNGs
"""

from __future__ import annotations

import csv
import statistics
from collections.abc import Mapping
from pathlib import Path

from plot import INK, LINES
from which_loss_losses import LOSSES

HERE = Path(__file__).parent
TITLES = {
    "xor": "XOR: b of 32 from a and c = a xor b",
    "swapped": "XNOR with shared bits, a or b swapped in four samples of ten",
    "gaussian": "Gaussians: nats of I(a, b; c) that the scores tell, of 2.77",
    "four": "Four modalities: d from a, b and c",
    "holes": "Digits with six rows of ten missing in training",
}
LABELS = {"gaussian": "nats", "holes": "recall@1"}
CHANCES = {
    "xor": {"": 1 / 32},
    "swapped": {"": 1 / 32},
    "gaussian": {"": 0.0},
    "four": {"copies": 1 / 16, "": 1 / 8},
    "holes": {"": 0.1},
}
"""Question -> world -> the score of a guess; "" stands for all other worlds."""
Found = dict[str, dict[str, list[float]]]


def read(question: str) -> tuple[Found, dict[str, float]]:
    """Return world -> loss -> the values of its seeds, and world -> ceiling where one is known."""
    found: Found = {}
    ceilings = {}
    with (HERE / f"which_loss_{question}.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["world"], {}).setdefault(row["loss"], []).append(float(row["value"]))
            if row["ceiling"]:
                ceilings[row["world"]] = float(row["ceiling"])
    return found, ceilings


def read_sum() -> Found:
    """Return the figures of sum.csv with Symile's spread on, by the names of losses here."""
    names = {"pairwise": "InfoNCE", "pairwise+partial": "InfoNCE + Symile"}
    names |= {kind: f"Symile {kind}" for kind in ("partial", "shuffled", "all")}
    found: Found = {"word": {}}
    with (HERE / "sum.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            loss = names.get(row["objective"], row["objective"])
            if row["spread"] == "1.0" and loss in LOSSES:
                found["word"].setdefault(loss, []).append(float(row["score"]))
    return found


def list_losses(found: Found) -> list[str]:
    """Return the losses of a table in the order of the first world that has each."""
    return list(dict.fromkeys(loss for values in found.values() for loss in values))


def cell(values: list[float]) -> str:
    """Return mean ± standard deviation."""
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    mean = round(statistics.mean(values), 3) + 0.0  # no minus zero
    return f"{mean:.3f} ± {spread:.3f}"


def table(found: Found, ceilings: Mapping[str, float], chances: Mapping[str, float]) -> list[str]:
    """Return the lines of a Markdown table: a row a loss, a column a world."""
    lines = ["| loss | " + " | ".join(found) + " |", "|---" * (len(found) + 1) + "|"]
    for loss in list_losses(found):
        cells = [cell(found[world][loss]) if loss in found[world] else "" for world in found]
        lines.append(f"| {loss} | " + " | ".join(cells) + " |")
    if ceilings:
        lines.append("| *best possible* | " + " | ".join(f"{ceilings[world]:.3f}" for world in found) + " |")
    guess = [chances.get(world, chances[""]) for world in found]
    return [*lines, "| *chance* | " + " | ".join(f"{x:.3f}" for x in guess) + " |"]


def table_published() -> list[str]:
    """Return a Markdown table of xor.csv, which has the figures of Symile's published code."""
    with (HERE / "xor.csv").open(newline="") as file:
        rows = {(row["negatives"], row["p"]): row for row in csv.DictReader(file)}
    lines = ["| p | ceiling | published code | ours | pairwise |", "|---|---|---|---|---|"]
    for kind, p in rows:
        if kind == "shuffled":
            row = rows[kind, p]
            figures = (row["ceiling"], row["published"], row["accuracy"], rows["pairwise", p]["accuracy"])
            lines.append(f"| {p} | " + " | ".join(f"{float(x):.3f}" for x in figures) + " |")
    return lines


def draw(question: str, found: Found, ceilings: Mapping[str, float]) -> None:
    """Write the plot: a panel a world, a bar a loss with its seeds as dots, ceiling and chance as lines."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    losses, chances = list_losses(found), CHANCES[question]
    size = (2.2 + 2.6 * len(found), 1.6 + 0.3 * len(losses))
    figure, panels = plt.subplots(1, len(found), figsize=size, sharey=True, layout="constrained", squeeze=False)
    for i, (ax, (world, values)) in enumerate(zip(panels[0], found.items(), strict=True)):
        shown = [loss for loss in losses if loss in values]
        places = [losses.index(loss) for loss in shown]
        means = [statistics.mean(values[loss]) for loss in shown]
        ax.barh(places, means, 0.7, color=LINES[0])
        for place, loss in zip(places, shown, strict=True):
            ax.plot(values[loss], [place] * len(values[loss]), ".", color=INK, markersize=4)
        ax.axvline(chances.get(world, chances[""]), color=INK, linewidth=1, linestyle=":", label="chance")
        if world in ceilings:
            ax.axvline(ceilings[world], color=LINES[1], linewidth=1.4, linestyle="--", label="best possible")
        ax.set_title(world, loc="left", fontsize=10, color=INK)
        right = 1.04 if question != "gaussian" else 1.05 * max(*means, ceilings[world])
        ax.set(xlabel=LABELS.get(question, "accuracy"), xlim=(min(0.0, *means), right))
        ax.spines[["top", "right"]].set_visible(False)
        ax.set_yticks(range(len(losses)), losses, fontsize=9)
        if not i:
            ax.invert_yaxis()
    figure.suptitle(f"{TITLES[question]} (three seeds)", x=0.01, ha="left", fontsize=11, color=INK)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, loc="outside lower right", ncols=2, fontsize=9)
    figure.savefig(HERE / f"which_loss_{question}.png", dpi=110)
    plt.close(figure)


def main() -> None:
    for question, title in TITLES.items():
        if (HERE / f"which_loss_{question}.csv").is_file():
            found, ceilings = read(question)
            print("\n".join([title, "", *table(found, ceilings, CHANCES[question]), ""]))
            draw(question, found, ceilings)
    print("\n".join(["XOR, published figures beside ours (xor.csv)", "", *table_published(), ""]))
    print("\n".join(["The sum of two digits (sum.csv)", "", *table(read_sum(), {}, {"": 0.1})]))


if __name__ == "__main__":
    main()
