"""The trace of a real training goes by the names that its viewers look for."""

from __future__ import annotations

from fnmatch import fnmatch

import pytest

from dlsweep.trackers.traces import trace_files, viewer_name

pytestmark = pytest.mark.slow

EXPECTED = {
    "torch": ["operations.txt", "trace.pt.trace.json"],
    "keras": ["plugins/profile/*/*.xplane.pb"],
}


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # TensorFlow's
def test_a_traced_training_leaves_what_its_viewers_know(lab) -> None:
    run = lab.trained(epochs=1, profiler=[1, 2])
    files = trace_files(run)
    names = [viewer_name(name) for name in files]
    for name, pattern in zip(names, EXPECTED[lab.framework], strict=True):
        assert fnmatch(name, pattern)
    assert all(path.stat().st_size > 1000 for path in files.values())
