"""The ways in which a program writes files, as programs that Gridkeep runs (`tests/e2e/test_cases.py`).

It is copied into a project and executed there, so it needs nothing but Python, and knows nothing of Gridkeep.
"""

from __future__ import annotations

from . import descriptors, names, places, plain, processes, programs  # noqa: F401 - they declare their cases
from .base import CASES, Case, Loss, main

__all__ = ["CASES", "Case", "Loss", "main"]
