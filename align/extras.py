"""Extras: packages that only some users need, and the command that installs them."""

from __future__ import annotations

from pathlib import Path

DISTRIBUTION = "align-multimodal"
"""The name on the package index, where `align` is another project."""


def pip_install(extra: str) -> str:
    """Return the command that installs an extra, into the checkout that this package lies in or else from the index.

    Outside the checkout's folder it names the folder in which the command works.
    """
    root = checkout()
    if root is None:
        return f"pip install '{DISTRIBUTION}[{extra}]'"
    return f"pip install -e '.[{extra}]'" + ("" if Path.cwd() == root else f" (in {root})")


def checkout() -> Path | None:
    """Return the folder of the repository that this package lies in, or None for an installed copy."""
    root = Path(__file__).resolve().parent.parent
    try:
        text = (root / "pyproject.toml").read_text(encoding="utf-8")
    except OSError:
        return None
    return root if f'\nname = "{DISTRIBUTION}"\n' in text else None
