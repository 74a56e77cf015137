"""What every test gets: no hub, one thread, and the real data where it is."""

from __future__ import annotations

import faulthandler
import gc
import json
import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # the suite is the same on a machine with a GPU

import pytest

want = "for want of data"
gpu = "needs a GPU"
qdrant = "needs a Qdrant server"  # no registry of packages has its program


def data_folder(name: str) -> Path:
    """$ALIGN_DATA/name; the test skips with a reason where it is not there."""
    path = Path(os.environ.get("ALIGN_DATA", "data")) / name
    if not path.is_dir():
        pytest.skip(f"{want}: no folder {name} in $ALIGN_DATA (default: data)")
    return path


@pytest.fixture(scope="session")
def real_data():
    """``real_data("mnist")`` is a folder of real data, or skips."""
    return data_folder


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _no_wait_for_the_disk():
    """No test of this process cuts the power, so nothing has to be on the disk; those that kill start others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: os.fstat(file) and None)  # as before, an error for a closed one
        yield


def pytest_collection_finish() -> None:
    """Keep modules and tests out of every later search for garbage, which would take a quarter of the time."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A sweep is slow too: ``-m "not slow"`` replaces the default ``-m "not sweep"``."""
    for item in items:
        if item.get_closest_marker("sweep"):
            item.add_marker("slow")


def pytest_unconfigure() -> None:
    """Say where the process stands, and fail, if it does not end within five minutes of its last test."""
    faulthandler.dump_traceback_later(300, exit=True)


_skipped: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _note(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    _note(report)


def _note(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Keep a skip that CI does not allow: it has every package and program, and where there is a folder, the data."""
    if not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    data = Path(os.environ.get("ALIGN_DATA", "data")).is_dir()
    if gpu not in reason and qdrant not in reason and (data or want not in reason):
        _skipped.append(f"{report.nodeid}: {reason}")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """In CI a test that finds no package, no program, or no data where the folder exists, is a failure."""
    if os.environ.get("CI") and _skipped:
        session.exitstatus = 1


def pytest_terminal_summary(terminalreporter, exitstatus: int) -> None:
    if os.environ.get("CI") and _skipped:
        terminalreporter.section("skipped, which fails in CI")
        terminalreporter.write_line("\n".join(_skipped))


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory) -> str:
    """The name of a model of two layers that open_clip learns. It has no way to forget it, which does no harm."""
    import open_clip

    tower = {"layers": 2, "width": 32}
    config = {
        "embed_dim": 16,
        "vision_cfg": {**tower, "image_size": 32, "head_width": 16, "patch_size": 16},
        "text_cfg": {**tower, "context_length": 12, "vocab_size": 90, "heads": 2},
    }
    path = tmp_path_factory.mktemp("configs") / "align-tiny.json"
    path.write_text(json.dumps(config))
    open_clip.add_model_config(path)
    return path.stem
