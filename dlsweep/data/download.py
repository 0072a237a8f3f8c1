"""Downloads files: resumes partial downloads, and verifies checksums."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from rich.progress import Progress

from dlsweep.errors import DataError
from dlsweep.folders.lock import Lock

_BLOCK = 1 << 16
_TIMEOUT = 30.0
#: How long to wait for another process that downloads to the same folder, in seconds.
_PATIENCE = 3600.0
_RANGE_NOT_SATISFIABLE = 416
_PARTIAL_CONTENT = 206


def download(base_url: str, checksums: Mapping[str, str], folder: Path) -> None:
    """Downloads the missing files of a folder.

    Args:
        base_url: The URL before each file name.
        checksums: The MD5 digest of each file, by its name.
        folder: The folder; created if needed.

    Raises:
        DataError: If a file cannot be downloaded, or has another checksum.
    """
    lock = Lock(folder / "download.lock")
    url = base_url
    try:
        if not lock.wait(_PATIENCE):
            raise DataError(f"{folder} is still being filled by {lock.holder()}.")
        for name, md5 in checksums.items():
            url = base_url + name
            if not (folder / name).exists():
                _fetch(url, folder / name, md5)
    except (OSError, HTTPException) as error:
        raise DataError(
            f"{url} cannot be downloaded: {error}.\n"
            f"Expected in {folder}: {', '.join(checksums)}.\n"
            "Put these files there by hand, or name the folder that has them:  data.folder=<folder>"
        ) from None
    finally:
        lock.release()


def _fetch(url: str, target: Path, md5: str) -> None:
    part = target.with_name(f"{target.name}.part")
    _complete(url, part)
    received = hashlib.md5(part.read_bytes(), usedforsecurity=False).hexdigest()
    if received != md5:
        part.unlink()
        raise DataError(
            f"{url} is not the file that was published.\n"
            f"Received the MD5 digest {received}. Expected {md5}.\n"
            f"Try again, or put the right file at {target}"
        )
    part.rename(target)


def _complete(url: str, part: Path) -> None:
    """Downloads the rest of a partial file."""
    have = part.stat().st_size if part.exists() else 0
    request = Request(url, headers={"Range": f"bytes={have}-"} if have else {})  # noqa: S310
    try:
        response = urlopen(request, timeout=_TIMEOUT)  # noqa: S310 - a fixed http address
    except HTTPError as error:
        with error:
            if have and error.code == _RANGE_NOT_SATISFIABLE:
                return  # nothing is left to download; the checksum is verified next
            raise
    with response, Progress() as progress:
        have = have if response.status == _PARTIAL_CONTENT else 0
        total = have + (response.length or 0)
        task = progress.add_task(url.rsplit("/", 1)[-1], total=total, completed=have)
        with part.open("ab" if have else "wb") as file:
            while block := response.read(_BLOCK):
                file.write(block)
                progress.advance(task, len(block))
    if part.stat().st_size < total:
        raise OSError(f"{url} was interrupted; the next try resumes it")
