"""A walk through an installed align, away from its checkout: `python -I tests/installed.py CHECKOUT`.

`.ci/run` runs it in an environment that has the built wheel: a template, a script or the quickstart's config that the
wheel lacks is seen here and nowhere else. Prints what is wrong and exits with 1.
"""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import tempfile
from pathlib import Path


def tracked(checkout: Path) -> set[str]:
    """Return the files of align in a checkout that git does not ignore, relative to its root."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "align"]
    return set(subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True).stdout.split())


def walk(folder: Path) -> None:
    """Make shards and a page of each kind, and read the quickstart's config and the parts of the server's pages.

    Raises where a part is missing.
    """
    import yaml

    import align
    from align.commands import main
    from align.page.section import Bar, Bars, Curve, Gallery, Matrix, Section, Table
    from align.page.templates import environment, read_kit
    from align.quickstart import write_world
    from align.report import write_report
    from align.serve.page.kit import NAMES

    config = Path(align.__file__).with_name("quickstart") / "config.yaml"
    assert yaml.safe_load(config.read_text(encoding="utf-8"))["objective"]
    write_world(folder / "shards", train=8, test=4, workers=1)
    for command, page in (("check", "check.html"), ("show", "show.html")):
        code = main(["shards", command, str(folder / "shards"), "--html", str(folder / page)])
        assert code in (0, 3), f"align shards {command} ended with {code}"  # 3: it found something
    blocks = [
        Table(["k", "n"], [["a", 1.0]]),
        Bars("Attribute", "accuracy", [Bar("shape", "image", 0.5, 0.25)], {"shape": "4 classes"}),
        Matrix("", "same object", "sample", {"recall@1": {("image", "text"): 0.5}}),
        Curve("Loss", "step", "loss", {"training": [(0, 1.0), (1, 0.5)]}),
        Gallery(["a"], {"a": "a sample"}),
    ]
    write_report(
        folder / "report.html",
        title="installed",
        scores={"image_to_text/recall@1": 0.5},
        protocol={"version": "0", "bad": {"image/empty": 1}, "notes": ["a note"]},
        sections=[Section("All blocks", "One of each.", blocks)],
    )
    for name in ("search/page.html", "search/results.html", "search/item.html", "docs.html"):
        environment().get_template(name)
    for name in NAMES:
        assert read_kit(name), f"{name} is empty"
    for page, part in (
        ("check.html", 'class="plain"'),
        ("show.html", 'class="cards"'),
        ("report.html", 'class="heat"'),
    ):
        text = (folder / page).read_text(encoding="utf-8")
        assert part in text, f"{page} has no {part}"
        assert text.endswith("</html>"), f"{page} has no end"


def main() -> int:
    """Compare the installed files with those of the checkout, then walk. Return 1 where something is wrong."""
    import align

    checkout, site = Path(sys.argv[1]).resolve(), Path(align.__file__).resolve().parent.parent
    if site == checkout:
        print(f"{site} is the checkout itself, not an installation", file=sys.stderr)
        return 1
    installed = {path.relative_to(site).as_posix() for path in (site / "align").rglob("*") if path.is_file()}
    if missing := sorted(tracked(checkout) - installed):
        print("the installation lacks", *missing, file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        walk(Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
