"""Names: the house's words, one idea a file, docstrings on what is public."""

import ast
from pathlib import Path

import pytest
from sentences import bad_names, docstrings, participles, rates

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


TERMS = {  # a term of the field -> the file where a reader who greps for it should land
    "cache": "data/places/keep.py",
    "checksum": "data/archive/index.py",
    "prefetch": "data/places/ahead.py",
    "quarantine": "lit/quarantine.py",
    "resume": "lit/resume.py",
    "retry": "files/retry.py",
    "shuffle": "data/order.py",
}


def test_docstrings_are_plain_sentences():
    """In 1,000 words at most one "what" and four semicolons; at most 2 % begin with What, Whether or Of."""
    found = rates(list(docstrings(root)))
    assert found["words"] > 40_000
    assert found["what"] <= 1
    assert found["semicolons"] <= 4
    assert found["openings"] <= 2


def test_functions_that_act_are_verbs():
    found = {line.split()[-1] for path in files for line in participles(path)}
    assert found <= {"altered"}  # a name of the contract


def test_no_name_says_nothing():
    """``once``, ``what``, ``who``, ``own`` and ``mine`` name nothing."""
    assert [line for path in files for line in bad_names(path)] == []


@pytest.mark.parametrize(("term", "file"), TERMS.items())
def test_a_term_of_the_field_is_found_in_its_file(term, file):
    told = ast.get_docstring(ast.parse((root / file).read_text(encoding="utf-8"))) or ""
    assert term in told.lower()


def test_the_rates_see_bad_prose(tmp_path):
    bad = tmp_path / "bad.py"
    bad.write_text('def held(own):\n    """What it is; of what."""\n    mine = own\n    return mine\n')
    found = rates(list(docstrings(bad)))
    assert (found["openings"], found["what"], found["semicolons"]) == (100, 400, 200)
    assert len(participles(bad)) == 1
    assert len(bad_names(bad)) == 2
