"""Calls Hydra's ``instantiate``; the only module that does.

A config is trusted here: it comes from the user's command line and YAML, or
:func:`dlsweep.security.trust.check_trusted` has checked it. Hydra 1.4 warns unless its caller lists
the targets that may run. Such a list would have to hold every name behind a re-exported one, so
dlsweep leaves it out and silences that one warning. Hydra still refuses the targets that it never
runs, such as ``os.system``. Hydra 1.5 will raise instead of warning; pyproject.toml excludes it.
"""

from __future__ import annotations

import warnings
from typing import Any

import hydra.utils


def instantiate(node: Any, **options: Any) -> Any:
    """Builds what a config node's ``_target_`` names, and the nodes inside it.

    Args:
        node: The config node.
        options: As for ``hydra.utils.instantiate``, such as ``_convert_``.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"hydra\.utils\.instantiate\(\) resolved _target_=")
        return hydra.utils.instantiate(node, **options)
