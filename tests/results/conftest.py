"""Lets the tests of results, and the report's benchmark, import what they share."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))  # made_studies and headless
