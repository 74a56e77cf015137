"""Downloads of public files, checked by size and checksum. An interrupted download is continued."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from align.files import sha256 as sha256_of
from align.files.confined import check_confined
from align.files.http import Status, content_length, read_body, request
from align.files.retry import GaveUp, retry


def download(
    url: str,
    path: str | Path,
    *,
    sha256: str | None = None,
    size: int | None = None,
    retries: int = 3,
    md5: str | None = None,
) -> Path:
    """Download ``url`` to ``path`` and check it. A file that is there already is only checked.

    A part that an interrupted download left is continued (HTTP Range), and the checksum is taken over the whole file.
    md5 is for files whose publisher gives no other checksum. It finds damage, not intent. retries: attempts in all.
    Raises OSError in one line when the network or the content fails. It says where to put the file by hand.
    """
    check_confined(url)
    path = Path(path)
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"only http:// and https:// can be downloaded, not {url!r}")
    if path.is_file():
        problem = _difference(path, sha256, size, md5)
        if problem:
            raise OSError(f"{path} is not the file that is expected: {problem}; remove it to download it again")
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        retry(lambda: _fetch(url, part), attempts=retries)
    except GaveUp as failed:
        reason = getattr(failed.error, "reason", None) or failed
        raise OSError(f"cannot download {url} ({reason}); fetch it elsewhere and put it at {path}") from None
    problem = _difference(part, sha256, size, md5)
    if problem:
        part.unlink()
        raise OSError(f"{url} did not give the file that is expected: {problem}")
    os.replace(part, path)
    return path


def _fetch(url: str, part: Path) -> None:
    """Continue ``part`` to the end of the file, or begin anew where the server gives no ranges."""
    have = part.stat().st_size if part.exists() else 0
    try:
        with (
            request(url, {"Range": f"bytes={have}-"} if have else {}, timeout=30) as response,
            open(part, "ab" if response.status == 206 else "wb") as file,
        ):
            given = response.headers.get("Content-Range", "")
            if response.status == 206 and given and not given.startswith(f"bytes {have}-"):
                raise OSError(f"asked for bytes from {have}, the server gave {given}")
            for chunk in read_body(response, content_length(response), patience=None):
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
    except Status as error:
        if error.code != 416 or not have:
            raise
        if error.headers.get("Content-Range", "").rpartition("/")[2] != str(have):
            part.unlink()  # it is longer than the file
            raise EOFError("the part on the disk does not fit the file") from None


def _difference(path: Path, checksum: str | None, size: int | None, md5: str | None = None) -> str:
    """Return the first difference between a file and its stated size and checksums, "" for none."""
    have = path.stat().st_size
    if size is not None and have != size:
        return f"{have} bytes instead of {size}"
    if checksum is not None and (found := sha256_of(path)) != checksum.lower():
        return f"sha256 {found} instead of {checksum}"
    if md5 is not None and (found := _md5(path)) != md5.lower():
        return f"md5 {found} instead of {md5}"
    return ""


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
