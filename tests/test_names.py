"""Names: the house's words, one idea a file, docstrings on what is public."""

import ast
from pathlib import Path

import pytest

import align

root = Path(align.__file__).parent
files = sorted(root.rglob("*.py"))
words = {"backbone", "trunk", "projector", "d_model", "embed_dim", "out_dim", "logit_scale", "criterion", "sim_matrix"}


@pytest.mark.parametrize("path", files, ids=lambda p: str(p.relative_to(root)))
def test_a_file_says_what_it_is(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), f"{path} has no module docstring"
    assert path.stem not in {"utils", "helpers", "misc", "common", "types", "json"}


@pytest.mark.parametrize("path", files, ids=lambda p: str(p.relative_to(root)))
def test_the_houses_words(path):
    """Identifiers that we define use the words of the style guide."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    defined = {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    defined |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    defined |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    assert not defined & words


def test_public_functions_have_docstrings_and_types():
    missing = []
    for name in align.__all__:
        thing = getattr(align, name)
        if not getattr(thing, "__doc__", None) and not isinstance(thing, type(dict[str, int])):
            missing.append(name)
    assert missing == []


def test_no_public_name_is_a_submodules():
    rooms = {path.stem for path in root.glob("*.py")} | {path.name for path in root.iterdir() if path.is_dir()}
    assert not rooms & set(align.__all__)
