"""Extras: packages that only some users need, and the command that installs them."""

from __future__ import annotations

from importlib import import_module
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


def has_part(module: str, part: str) -> bool:
    """Return True where a module is installed and has a part.

    The part is imported: a folder here with the module's name would satisfy a search for the module alone.
    """
    try:
        getattr(import_module(module), part)
    except (ImportError, AttributeError):
        return False
    return True


def checkout() -> Path | None:
    """Return the folder of the repository that this package lies in, or None for an installed copy."""
    root = Path(__file__).resolve().parent.parent
    try:
        text = (root / "pyproject.toml").read_text(encoding="utf-8")
    except OSError:
        return None
    return root if f'\nname = "{DISTRIBUTION}"\n' in text else None
