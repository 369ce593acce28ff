"""Gridkeep keeps every file that your runs write.

This module stays small and free of dependencies: it is imported by every command and by the capture shim.
"""

__version__ = "0.1.0"
