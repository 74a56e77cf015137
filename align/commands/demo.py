"""``align demo``: the run of the quickstart, its index, and the search page on it."""

from __future__ import annotations

from pathlib import Path


def demo(run: str = "runs/quickstart", /, *, host: str = "127.0.0.1", port: int = 8000, workers: int = 1) -> int:
    """Open the search page on the quickstart's small world

    The run of `align quickstart` is used. It is made first where it is not there, which takes two minutes on two
    cores. Its index is made too, from the world's test objects. The address of the page is printed, and Ctrl-C ends it.
    It needs the extra serve.

    Args:
        run: the folder of the quickstart
        host: the address to listen on
        port: the port to listen on. 0: any free one
        workers: processes that decode the world for the training
    """
    from align import load
    from align.commands.devices import Placing
    from align.commands.groups import Weights
    from align.commands.quickstart import quickstart, update_index
    from align.commands.serve import check_installed, open_socket, serve

    check_installed()  # before minutes of training
    open_socket(host, port).close()
    folder = Path(run)
    if not _is_trained(folder):
        print(f"{run} has no trained quickstart yet: it is made first", flush=True)
        code = quickstart(run, workers=workers)
        if code:
            return code
    update_index(folder, load(folder))
    return serve(run, host=host, port=port, placing=Placing(), weights=Weights())


def _is_trained(folder: Path) -> bool:
    """Return True for the folder of a finished quickstart. Raises ValueError for one that holds something else."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; name a folder for the quickstart's run")
    finished = (folder / "results.json").is_file() and (folder / "model").is_dir()
    if finished and not (folder / "shards" / "world.json").is_file():
        raise ValueError(
            f"{folder} is no run of `align quickstart`; to serve it: align index build {folder} SHARDS, then "
            f"align serve {folder}"
        )
    return finished
