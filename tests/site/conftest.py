"""Lets the tests of the site import what they share, and the browser of the report's tests."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.extend([str(Path(__file__).parent), str(Path(__file__).parents[1] / "results")])
