"""``align quickstart``: a generated world, a trained joint space, its report, and commands to try next."""

from __future__ import annotations

import os
import shlex
import sys
import time
from pathlib import Path
from typing import Any, Literal


def quickstart(
    run: str = "runs/quickstart",
    /,
    *,
    objects: int = 4000,
    test: int = 500,
    steps: int | None = None,
    seed: int = 0,
    workers: int = 1,
    fresh: bool = False,
    precision: Literal["32-true", "bf16-mixed"] | None = None,
) -> int:
    """Make a small world, train four towers on it, evaluate them, write a report, and suggest next commands

    The world is generated: solids that one can see (image), turn (points), strike (audio) and describe (text). Nothing
    is downloaded. It takes about two minutes on two cores. A stopped quickstart resumes with the same command. `align
    demo` opens the search page on its result.

    Args:
        run: the folder for everything: shards, checkpoints, model, results.json, report.html
        objects: how many objects to train on, at least 500
        test: how many objects to test on, at least 20. Their combinations of shape, material, colour and size are not
            in training
        steps: how many steps to train. Default: as many as the quickstart's config has
        seed: the seed of the world and of the training
        workers: processes that decode the world for the training
        fresh: start over, even where the folder has a run
        precision: the arithmetic of the training. Default: 32-true. bf16-mixed is faster on a CPU that has bfloat16
    """
    if objects < 500 or test < 20:
        raise ValueError(f"the quickstart needs at least 500 objects and 20 to test on; got {objects} and {test}")
    start, folder = time.monotonic(), Path(run)
    folder.mkdir(parents=True, exist_ok=True)
    shards = folder / "shards"
    _world(shards, objects, test, seed)
    made = time.monotonic()
    print(f"world: {objects} objects to train on, {test} to test on, in {shards} ({made - start:.0f} s)", flush=True)
    more = [] if precision is None else ["--trainer.precision", precision]
    code = _train(folder, shards, steps, seed, workers, fresh, more)
    if code:
        return code
    trained = time.monotonic()
    print(f"trained in {trained - made:.0f} s", flush=True)
    scores = _evaluate(folder, shards, workers)
    examples = _examples(folder, shards)
    _say(folder, scores, examples, time.monotonic() - start)
    return 0


def _world(shards: Path, objects: int, test: int, seed: int) -> None:
    from align.commands.progress import progress as bar
    from align.files import read_json, write_json
    from align.quickstart import write_world

    asked = {"objects": objects, "test": test, "seed": seed}
    done = shards / "world.json"
    if done.is_file() and read_json(done) == asked:
        return
    for old in shards.glob("t*-*.tar*"):
        old.unlink()
    (shards / "manifest.json").unlink(missing_ok=True)
    with bar("making the world") as said:
        write_world(shards, train=objects, test=test, seed=seed, workers=os.cpu_count() or 1, progress=said)
    write_json(done, asked)


def _train(folder: Path, shards: Path, steps: int | None, seed: int, workers: int, fresh: bool, more: list[str]) -> int:
    from importlib.resources import as_file, files

    from align.commands.train import parse
    from align.data.places.patterns import inside

    with as_file(files("align.quickstart") / "config.yaml") as config:
        args = ["--config", str(config), f"--run={folder}", "--seed", str(seed), "--data.workers", str(workers)]
        args += [
            f"--data.{of}={inside(shards, f'{split}-*.tar')}" for of, split in (("train", "train"), ("val", "test"))
        ]
        args += ["--trainer.max_steps", str(steps)] if steps else []
        return parse([*args, *more, *(["--fresh"] if fresh else [])], quiet=True)


def _evaluate(folder: Path, shards: Path, workers: int) -> dict[str, float]:
    from align import evaluate, load
    from align.commands.process import command_line
    from align.commands.progress import progress as bar
    from align.commands.results_page import read_training, write_page
    from align.data import Shards
    from align.data.places.patterns import inside
    from align.evaluation import write_results
    from align.quickstart import TEMPLATES

    pattern = inside(shards, "test-*.tar")
    model, tests = load(folder), Shards(pattern, shuffle=False)
    command = command_line() if sys.argv[1:2] == ["quickstart"] else "align quickstart"
    with bar("evaluating") as said:
        results = evaluate(model, tests, workers=workers, templates=TEMPLATES, command=command, progress=said)
    results.protocol["note"] = (
        "objects whose captions' parameters (size, color, material, shape) are equal have one group and are hits for "
        "each other; no test combination was trained on; test captions name all four"
    )
    results.protocol.update(read_training(folder))
    write_results(results, folder)
    update_index(folder, model, results.embeddings)
    write_page(results, tests, folder, folder, "align quickstart")
    return results.scores


def update_index(folder: Path, model: Any, embeddings: Any = None) -> None:
    """Make the index of the world's test objects in a run, unless one of this model is there.

    embeddings: of the test shards. None: they are embedded.
    """
    from align.commands.progress import progress
    from align.embedding import fingerprint
    from align.search.building import Work, build_index
    from align.search.building.place import kind_of
    from align.search.local import LocalIndex

    place = folder / "index"
    if kind_of(place) == "index":
        with LocalIndex.open(place) as index:
            if index.about["model"]["sha256"] == fingerprint(model):
                return
    with progress("embedding") as said:
        samples, work = sorted(map(str, (folder / "shards").glob("test-*.tar"))), Work(progress=said)
        build_index(model, samples, place, source=str(folder.resolve()), work=work, anew=True, embeddings=embeddings)


def _examples(folder: Path, shards: Path) -> dict[str, Path]:
    """Write members of the first test objects as files to ask with. Return modality -> the first file."""
    from align.data import Shards
    from align.data.places.patterns import inside
    from align.files import atomic_write

    out = folder / "examples"
    out.mkdir(exist_ok=True)
    first: dict[str, Path] = {}
    for i, sample in enumerate(Shards(inside(shards, "test-*.tar"), shuffle=False).samples(0)):
        if i == 8:
            break
        for name, content in sample.items():
            if name.split(".")[0] in ("image", "audio", "points", "text"):
                path = out / f"{i:02d}.{name}"
                with atomic_write(path) as f:
                    f.write(content)
                first.setdefault(name.split(".")[0], path)
    return first


def _say(folder: Path, scores: dict[str, Any], examples: dict[str, Path], seconds: float) -> None:
    from align.commands.process import measure_largest

    largest = measure_largest()
    print(f"\ndone in {seconds:.0f} s" + (f"; largest process {largest:.1f} GiB" if largest is not None else ""))
    print("\nzero-shot accuracy on objects never seen:")
    for key in ("shape/image", "shape/points", "material/audio", "color/image"):
        if f"zeroshot/{key}/accuracy" in scores:
            attribute, modality = key.split("/")
            print(f"  {attribute:<9} from {modality:<7} {scores[f'zeroshot/{key}/accuracy']:.3f}")
    pairs = [v for k, v in scores.items() if k.endswith("/recall@10") and k.count("/") == 1]
    if pairs:
        print(f"retrieval, recall@10 over all pairs of modalities: {min(pairs):.3f} to {max(pairs):.3f}")
    print(f"\nlook at {folder / 'report.html'}; all numbers are in {folder / 'results.json'}\n\ntry next:")
    here = shlex.quote(str(folder))
    print(f"  align serve {here}    # the search page")
    print(f'  align search {here} "a red glass torus" --of image')
    print(f"  align search {here} --audio {shlex.quote(str(examples['audio']))} --of image --save found")
    print(f'  align zeroshot {here} --classes "cube,cone,torus,spring" {here}/examples/*.image.png')
