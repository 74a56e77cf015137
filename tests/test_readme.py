"""What the README says, runs: its scripts, its commands, its two lines. It lists every command and every page."""

import os
import re
import shutil

import pytest
from quick import small_run
from written import Reader, read_blocks, root, run_code, run_here

from align.commands import commands

page = root / "README.md"
text = page.read_text(encoding="utf-8")
scripts = [block.text for block in read_blocks(page, "python")]
lines = [command for block in read_blocks(page, "bash") for command in block.commands]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "runs").mkdir()
    shutil.copytree(small_run(), tmp_path / "runs" / "quickstart", ignore=shutil.ignore_patterns("checkpoints-*"))
    return tmp_path


def test_the_first_screen_has_the_two_lines():
    found = [line for line in text.splitlines() if line.startswith("    python3 -m venv")]
    assert found == [
        "    python3 -m venv .venv && . .venv/bin/activate && pip install -e . && align quickstart",
        '    python3 -m venv .venv && . .venv/bin/activate && pip install -e ".[test]" && pytest',
    ]
    assert text.splitlines().index(found[1]) < 25


def test_the_first_screen_has_the_demo_and_its_picture():
    assert text.index("    align index build open_clip:") < text.index("    align serve idx") < text.index("![")
    (picture,) = re.findall(r"!\[.+?\]\((.+?)\)", text)
    assert text[: text.index("![")].count("\n") < 14
    assert 0 < os.path.getsize(root / picture) <= 200 * 1024


def test_it_is_short():
    assert len(text.splitlines()) <= 170
    assert len((root / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()) <= 45
    for script in scripts:
        assert len([line for line in script.splitlines() if line.strip()]) <= 20


def test_every_command_has_its_row():
    """In the order of a first visit, as `align --help` has them."""
    table = text.split("| command |")[1].split("\n\n")[0]
    named = []
    for row in table.splitlines()[2:]:
        words = re.findall(r"`(.+?)`", row.split("|")[1])
        group = words[0].split()[1:-1]
        named += [words[0].removeprefix("align "), *(" ".join([*group, word]) for word in words[1:])]
    assert sorted(named) == sorted(commands)
    assert [name.split()[0] for name in dict.fromkeys(n.split()[0] for n in named)] == list(
        dict.fromkeys(name.split()[0] for name in commands)
    )


def test_every_page_is_linked_and_every_link_leads_somewhere():
    pages = [page, root / "CONTRIBUTING.md", *sorted((root / "docs").glob("*.md"))]
    linked = set()
    for one in pages:
        for link in re.findall(r"\]\((?!https?:)([^)]+)\)", one.read_text(encoding="utf-8")):
            name, _, part = link.partition("#")
            target = (one.parent / name).resolve() if name else one
            assert target.exists(), f"{one.name} links {link}"
            linked.add(target)
            if part:
                heads = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), flags=re.MULTILINE)
                assert part in {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}, link
    assert {one for one in pages if one.parent.name == "docs"} <= linked


@pytest.mark.slow
@pytest.mark.parametrize("i", range(len(scripts)))
def test_a_script_runs(i, folder):
    (folder / "script.py").write_text(scripts[i])
    if "image files" in scripts[i]:
        arguments = ["runs/quickstart", *sorted(map(str, (folder / "runs/quickstart/examples").glob("*.image.png")))]
    else:
        run_here(next(line for line in lines if line.startswith("align index build runs/quickstart")), folder)
        arguments = ["idx", "a red glass torus"]
    printed = run_code(folder / "script.py", *arguments)
    assert len(printed.splitlines()) >= 8


def test_its_training_is_that_of_the_page():
    """Whose commands a test of docs/ runs."""
    page = [command for block in read_blocks(root / "docs" / "training.md", "bash") for command in block.commands]
    known = {command.split("#")[0].strip() for command in page}
    others = {line.split("#")[0].strip() for line in lines if "quickstart" not in line and "idx" not in line}
    assert len(others) == 3
    assert others <= known


@pytest.mark.slow
def test_the_quickstart_commands_run(folder):
    for command in (line for line in lines if "quickstart" in line or "idx" in line):
        assert run_here(command, folder).strip()
    assert any((folder / "found").iterdir())


@pytest.mark.slow
def test_the_two_lines_of_the_demo_run(tmp_path):
    """With a small model of open_clip's in place of the published one, and pictures and a sound that are made here."""
    from made_folder import make_folder
    from published_sources import make_open_clip

    build, serve = (
        line.split("#")[0].strip()
        for line in text.splitlines()
        if line.startswith(("    align index", "    align serve"))
    )
    assert build.split()[3] == "open_clip:ViT-B-32/laion2b_s34b_b79k"
    make_folder(tmp_path / "photos")
    small = make_open_clip(tmp_path / "small" / "model")
    with Reader(tmp_path) as reader:
        reader.enter(build.replace("open_clip:ViT-B-32/laion2b_s34b_b79k", f"open_clip:{small}"))
        assert reader.enter(serve) == "it answers"
        assert "<html" in reader.enter("curl -s http://127.0.0.1:8000/")
