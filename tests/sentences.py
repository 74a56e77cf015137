"""Rates of the house's prose: `python tests/sentences.py [PATH ...]` prints them for each folder or file."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

openings = ("what", "whether", "of")
no_names = {"once", "what", "who", "own", "mine"}
irregular = re.findall(
    r"\w+",
    "apart begun bought bound bowed broken brought built caught chosen done drawn driven fallen felt "
    "found given gone grown held hidden hung kept known laid led left lent lost made meant met paid said "
    "seen sent shown sold spent spoken stolen stuck sworn taken taught thought told torn understood whole "
    "won worn wound written ",
)
verbs = {"bed", "bleed", "breed", "embed", "exceed", "feed", "need", "proceed", "red", "seed", "shed", "speed", "wed"}


@dataclass(frozen=True)
class Doc:
    """One docstring, and where it stands."""

    path: Path
    name: str
    text: str


def docstrings(root: Path) -> Iterator[Doc]:
    """Yield every docstring of a file, or of the files of a folder in sorted order."""
    for path in sorted(root.rglob("*.py")) if root.is_dir() else [root]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                text = ast.get_docstring(node)
                if text:
                    yield Doc(path, getattr(node, "name", "(file)"), text)


def rates(docs: list[Doc]) -> dict[str, float]:
    """Return "what" and semicolons in 1,000 words, and the percentage of docstrings that open with a riddle."""
    words = sum(len(re.findall(r"\w[\w'-]*", doc.text)) for doc in docs) or 1
    return {
        "words": words,
        "what": 1000 * sum(len(re.findall(r"\bwhat\b", doc.text, re.I)) for doc in docs) / words,
        "semicolons": 1000 * sum(doc.text.count(";") for doc in docs) / words,
        "openings": 100 * len([doc for doc in docs if opens_badly(doc.text)]) / (len(docs) or 1),
    }


def opens_badly(text: str) -> bool:
    """Return True for a docstring whose first word is What, Whether or Of."""
    first = re.match(r"\W*(\w+)", text)
    return first is not None and first[1].lower() in openings


def is_participle(name: str) -> bool:
    """Return True for a function's name that is one participle and nothing else."""
    name = name.strip("_").lower()
    return name in irregular or (name.endswith("ed") and "_" not in name and name not in verbs)


def participles(path: Path) -> list[str]:
    """Return `file:line name` of each function (not property) that is named by a bare participle."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and is_participle(node.name):
            marks = {part for d in node.decorator_list for part in ast.unparse(d).split("(")[0].split(".")}
            if not marks & {"property", "cached_property"}:
                found.append(f"{path}:{node.lineno} {node.name}")
    return found


def bad_names(path: Path) -> list[str]:
    """Return `file:line name` of each definition, argument or variable whose name says nothing."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        name = {ast.arg: "arg", ast.Name: "id", ast.FunctionDef: "name", ast.ClassDef: "name"}.get(type(node))
        if name is None or (isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Store)):
            continue
        if getattr(node, name).lower() in no_names:
            found.append(f"{path}:{getattr(node, 'lineno', 0)} {getattr(node, name)}")
    return found


def main(paths: list[str]) -> None:
    """Print the rates of each path, then its riddles by name."""
    for root in [Path(p) for p in paths] or sorted(p for p in Path("align").iterdir() if p.suffix in {"", ".py"}):
        docs = list(docstrings(root))
        numbers = "  ".join(f"{name} {value:.1f}" for name, value in rates(docs).items())
        print(f"{root}: {len(docs)} docstrings  {numbers}")
        if not paths:
            continue
        for doc in docs:
            bad = [word for word in ("what",) if re.search(rf"\b{word}\b", doc.text, re.I)]
            bad += ["opening"] if opens_badly(doc.text) else []
            bad += [";" * doc.text.count(";")] if ";" in doc.text else []
            if bad:
                print(f"  {doc.path} {doc.name}: {', '.join(bad)}: {doc.text.splitlines()[0]}")
        for path in sorted(root.rglob("*.py")) if root.is_dir() else [root]:
            for line in participles(path) + bad_names(path):
                print(f"  {line}")


if __name__ == "__main__":
    main(sys.argv[1:])
