"""The hub: files come through its cache, a cut download goes on, and each failure is one line, at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from fake_hub import FakeHub

from align.files.hub import is_repository, licence_of, model_folder, split_revision

CARD = "---\nlicense: cc-by-4.0\ntags: [x]\n---\n# A model\n"


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    root = tmp_path_factory.mktemp("hub")
    folder = root / "owner" / "name"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"a": 1}')
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 400)
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "README.md").write_text(CARD)
    made = FakeHub(root)
    yield made
    made.close()


def ask(code, place, hub=None, **env):
    """Run Python code on ``hub_file`` and ``hub_folder``; return its output as JSON, or its last line of error."""
    found = subprocess.run(
        [sys.executable, "-c", f"import json\nfrom align.files.hub import *\nprint(json.dumps({code}))"],
        capture_output=True,
        text=True,
        timeout=300,
        env={
            **{k: v for k, v in os.environ.items() if not k.startswith("HF_") and "proxy" not in k.lower()},
            "HF_HOME": str(place),
            "HF_ENDPOINT": hub.address if hub else "http://127.0.0.1:9",
            "HF_HUB_DISABLE_XET": "1",
            **env,
        },
    )
    return json.loads(found.stdout) if found.returncode == 0 else found.stderr.strip().splitlines()[-1]


@pytest.mark.slow
def test_a_folder_is_downloaded_and_then_taken_from_the_cache(hub, tmp_path):
    code = "sorted(p.name for p in hub_folder('hf-hub:owner/name').iterdir())"
    assert ask(code, tmp_path, hub) == ["README.md", "config.json", "model.safetensors"]  # no pickle
    assert ask(code, tmp_path) == ["README.md", "config.json", "model.safetensors"]  # the hub is away
    assert ask(code, tmp_path, HF_HUB_OFFLINE="1") == ["README.md", "config.json", "model.safetensors"]
    assert ask("licence_of(hub_folder('owner/name'))", tmp_path) == "cc-by-4.0"


@pytest.mark.slow
def test_a_download_that_was_cut_goes_on(hub, tmp_path):
    hub.cut["model.safetensors"] = 50_000
    assert ask("len(hub_file('owner/name', 'model.safetensors').read_bytes())", tmp_path, hub) == 256 * 400


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "online", "says"),
    [
        ("hub_folder('owner/nothing')", True, "no model owner/nothing on the hub; a private one needs: hf auth login"),
        ("hub_file('owner/name', 'x.json')", True, "owner/name has no file x.json on the hub"),
        (
            "hub_folder('owner/gated')",
            True,
            "owner/gated is gated: accept its terms on the hub, then log in: hf auth login",
        ),
        pytest.param(
            "hub_file('owner/gated', 'x.json')",
            True,
            "owner/gated is gated: accept its terms on the hub",
            marks=pytest.mark.sweep,
        ),
        pytest.param(
            "hub_folder('owner/name@v9')", True, "owner/name has no such revision on the hub", marks=pytest.mark.sweep
        ),
        ("hub_file('owner/name@v9', 'config.json')", True, "owner/name has no such revision on the hub"),
        ("hub_folder('owner/name')", False, "owner/name is not in the cache, and the hub cannot be reached"),
        pytest.param(
            "hub_file('owner/name', 'x.json')",
            False,
            "x.json of owner/name is not in the cache",
            marks=pytest.mark.sweep,
        ),
        ("hub_folder('owner/na me')", True, "'owner/na me' is no name on the hub"),
    ],
)
def test_a_failure_is_one_line(hub, tmp_path, code, online, says):
    assert says in ask(f"str({code})", tmp_path, hub if online else None)


def test_names_of_repositories():
    assert split_revision("owner/name@v2") == ("owner/name", "v2")
    assert not is_repository("owner")
    assert not is_repository("~/name")


def test_local_folders(tmp_path):
    assert model_folder(str(tmp_path)) == tmp_path
    assert model_folder(f"local-dir:{tmp_path}") == tmp_path
    assert model_folder("ViT-B-32") is None
    with pytest.raises(FileNotFoundError, match="no folder"):
        model_folder(f"local-dir:{tmp_path / 'x'}")


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        (CARD, "cc-by-4.0"),
        ("---\ntags: [x]\nlicense: other\nlicense_name: apple-amlr\n---\n", "apple-amlr"),
        ('---\nlicense: "mit" \n---\n', "mit"),
        ("---\ntags: [x]\n---\nlicense: mit\n", "unstated"),
        ("# license: mit\n", "unstated"),
    ],
)
def test_the_licence_of_a_card(tmp_path, card, licence):
    (tmp_path / "README.md").write_text(card)
    assert licence_of(tmp_path) == licence


def test_no_card_no_licence(tmp_path):
    assert licence_of(tmp_path) == "unstated"
