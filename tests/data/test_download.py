"""Downloads from a real web server, with what goes wrong on the way."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest

from dlsweep.data.download import download
from dlsweep.errors import DataError

CONTENT = bytes(range(256)) * 2000
MD5 = {"digits.gz": hashlib.md5(CONTENT).hexdigest()}


@pytest.fixture
def published(server):
    server.files["digits.gz"] = CONTENT
    return server


def test_a_missing_file_is_downloaded(published, tmp_path: Path):
    download(published.url, MD5, tmp_path / "new")
    assert (tmp_path / "new" / "digits.gz").read_bytes() == CONTENT
    assert not list(tmp_path.glob("new/*.part"))


def test_a_broken_download_goes_on_from_where_it_broke(published, tmp_path: Path):
    published.cut = 100_000
    with pytest.raises(DataError, match="was interrupted; the next try resumes it"):
        download(published.url, MD5, tmp_path)
    assert not (tmp_path / "digits.gz").exists()
    download(published.url, MD5, tmp_path)
    assert (tmp_path / "digits.gz").read_bytes() == CONTENT
    assert published.requests == [("digits.gz", None), ("digits.gz", "bytes=100000-")]


def test_a_server_without_ranges_sends_it_all_again(published, tmp_path: Path):
    published.ranges = False
    (tmp_path / "digits.gz.part").write_bytes(CONTENT[:1000])
    download(published.url, MD5, tmp_path)
    assert (tmp_path / "digits.gz").read_bytes() == CONTENT


def test_a_part_that_is_whole_is_taken(published, tmp_path: Path):
    (tmp_path / "digits.gz.part").write_bytes(CONTENT)
    download(published.url, MD5, tmp_path)
    assert (tmp_path / "digits.gz").read_bytes() == CONTENT


def test_another_file_than_the_published_one_is_refused(published, tmp_path: Path):
    published.files["digits.gz"] = b"something else"
    received = hashlib.md5(b"something else").hexdigest()
    with pytest.raises(DataError) as caught:
        download(published.url, MD5, tmp_path)
    assert f"Received the MD5 digest {received}. Expected {MD5['digits.gz']}" in str(caught.value)
    assert not list(tmp_path.glob("digits*"))


def test_without_a_server_the_message_says_what_to_put_where(server, tmp_path: Path):
    url = server.url.replace("127.0.0.1", "127.0.0.2").replace(server.url.split(":")[-1], "9/")
    with pytest.raises(DataError) as caught:
        download(url, MD5, tmp_path)
    for part in (f"{url}digits.gz", f"Expected in {tmp_path}: digits.gz", "data.folder=<folder>"):
        assert part in str(caught.value)


def test_a_file_that_the_server_lacks_is_named(server, tmp_path: Path):
    with pytest.raises(DataError, match=r"digits\.gz cannot be downloaded: HTTP Error 404"):
        download(server.url, MD5, tmp_path)


def test_two_at_once_download_it_once(published, tmp_path: Path):
    threads = [
        threading.Thread(target=download, args=(published.url, MD5, tmp_path)) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "digits.gz").read_bytes() == CONTENT
    assert len(published.requests) == 1
