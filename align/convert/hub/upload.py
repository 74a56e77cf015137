"""The upload of a folder to the hub: one commit, which is there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from align.files.hub import is_repository

LOGIN = "log in with hf auth login, or set HF_TOKEN to a token that may write"


def check_push(repository: str) -> None:
    """Check what can be checked before anything is written.

    Raises ValueError for a name of another form, ConnectionError where the client is set offline.
    """
    from huggingface_hub.constants import is_offline_mode
    from huggingface_hub.utils import validate_repo_id

    if not is_repository(repository) or repository.startswith("hf-hub:") or "@" in repository:
        raise ValueError(f"--push {repository!r} is no name on the hub: it has the form owner/name")
    try:
        validate_repo_id(repository)
    except ValueError as error:
        raise ValueError(f"--push {repository!r} is no name on the hub: {error}") from None
    if is_offline_mode():
        raise ConnectionError(f"--push {repository}: HF_HUB_OFFLINE is set, so nothing can be uploaded; unset it")


def push(folder: Path, repository: str, *, private: bool, stale: tuple[str, ...] = ()) -> str:
    """Upload a folder's files to a model's repository, which is made where it is not there. Return its address.

    The client shows its progress. A file whose content the hub has already is not sent again, so a call after a
    failure resumes. stale: names of files that go from the repository where the folder has none of that name.

    Raises ConnectionError or PermissionError in one line. The repository has then the whole commit or none of it. A
    repository that was made for it stays.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None)
    with _explain(repository):
        address = api.create_repo(repository, private=private, exist_ok=True)
        about = api.model_info(repository)
        if private and not about.private:
            raise PermissionError(f"{repository} is there already and is public; --private makes new repositories only")
        names = sorted(path.name for path in folder.iterdir())
        there = {file.rfilename for file in about.siblings or ()}
        gone = [name for name in stale if name in there and name not in names]
        # upload_folder would split a large folder into several commits
        api.create_commit(
            repository,
            [
                *(CommitOperationAdd(name, str(folder / name)) for name in names),
                *(CommitOperationDelete(name) for name in gone),
            ],
            commit_message="Upload the model with align",
        )
    return str(address)


@contextmanager
def _explain(repository: str) -> Iterator[None]:
    """Turn the client's errors, which have many lines, into one line."""
    from huggingface_hub import errors

    try:
        yield
    except PermissionError:
        raise
    except Exception as error:  # the block calls the client alone, whose errors have no class in common
        cause = next((e for e in _chain(error) if isinstance(e, errors.HfHubHTTPError)), None)
        status = getattr(getattr(cause, "response", None), "status_code", None)
        if status in (401, 403) or isinstance(error, errors.LocalTokenNotFoundError):
            raise PermissionError(f"{repository} cannot be written: {LOGIN}") from error
        deepest = list(_chain(error))[-1]
        said = " ".join(str(deepest).split())[:200] or type(deepest).__name__
        said = f"the hub answered {status}" if status else said
        raise ConnectionError(
            f"the upload to {repository} failed: {said}; the repository has all of the commit or nothing, and the same "
            "command goes on"
        ) from error


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that caused it."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__
