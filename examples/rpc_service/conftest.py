"""For running these tests from a checkout: processes find this package where pytest has found it."""

from __future__ import annotations

import sys
from pathlib import Path

# Children import the service by the name that it has here, and get our sys.path. An installed package is on it already.
_root = str(Path(__file__).parents[len((__package__ or "").split("."))])
if _root not in sys.path:
    sys.path.append(_root)
