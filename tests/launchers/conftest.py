"""A project whose sweeps run on Ray, and a cluster of two nodes."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
from ray_nodes import Cluster, Project


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    # Paths of sockets are short: pytest's own folders are too deep.
    folder = Path(f"/tmp/dlr{os.getpid()}")
    folder.mkdir()
    made = Cluster(folder)
    try:
        made.start()
        yield made
    finally:
        made.end()
        shutil.rmtree(folder)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path / "project", {"RAY_AUTH_TOKEN": secrets.token_hex(32)})
    yield made
    made.end()


@pytest.fixture
def joined(cluster: Cluster, tmp_path: Path) -> Iterator[Project]:
    """A project whose sweeps join the cluster."""
    made = Project(tmp_path / "project", {**cluster.env, "RAY_ADDRESS": cluster.address})
    yield made
    made.end()
