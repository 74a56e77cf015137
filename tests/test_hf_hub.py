"""Models of transformers from the hub, against one on this machine: files, origins, and old pickles of tensors."""

import json
import os
import subprocess
import sys

import hf_models
import pytest
import torch
from fake_hub import FakeHub
from safetensors.torch import load_file

CODE = """
import json, sys
from align.checkpoint import read_parts
from align.published import load_published
out = {}
for layout, source in (("clip-hf", "owner/clip"), ("hf-text", "hf-hub:owner/bert")):
    model = load_published(layout, source)
    rows = model.embed(text=["a photo of a cat"])["text"]
    out[layout] = [read_parts(model)["text.encoder"], model.preprocess["text"].tokenizer, rows[0, :4].tolist()]
print(json.dumps(out))
"""


@pytest.mark.sweep  # two processes that import transformers
def test_a_model_comes_from_the_hub_and_then_from_its_cache(tmp_path):
    owner = tmp_path / "hub" / "owner"
    hf_models.clip(owner / "clip")
    (owner / "clip" / "README.md").write_text("---\nlicense: mit\n---\n")
    bert = hf_models.text(owner / "bert", "bert")
    torch.save(load_file(bert / "model.safetensors"), bert / "pytorch_model.bin")
    (bert / "model.safetensors").unlink()
    hub = FakeHub(tmp_path / "hub")
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_") and "proxy" not in k.lower()}
    env = {**kept, "HF_HOME": str(tmp_path / "cache"), "HF_ENDPOINT": hub.address, "HF_HUB_DISABLE_XET": "1"}
    said = []
    for offline in ("0", "1"):
        command = [sys.executable, "-W", "error", "-c", CODE]
        done = subprocess.run(command, env={**env, "HF_HUB_OFFLINE": offline}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        said.append(json.loads(done.stdout.splitlines()[-1]))
        hub.close() if offline == "0" else None
    assert said[0] == said[1]
    (clip, clip_tokens, _), (text, text_tokens, _) = said[0]["clip-hf"], said[0]["hf-text"]
    assert (clip["source"], clip["licence"], clip_tokens) == ("owner/clip", "mit", "owner/clip")
    assert (text["source"], text["licence"], text_tokens) == ("owner/bert", "unstated", "hf-hub:owner/bert")
    assert not any(path.endswith("pytorch_model.bin") and "clip" in path for path in hub.asked)
