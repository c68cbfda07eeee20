"""For running these tests from a checkout: processes find this package where pytest has found it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Children import the service by the name that it has here, and get our sys.path. An installed package is on it already.
_root = str(Path(__file__).parents[len((__package__ or "").split("."))])
if _root not in sys.path:
    sys.path.append(_root)

# Most of a minute of sleeping tells nothing that the waiting edition does not; it is there to be run on request.
collect_ignore = [] if os.environ.get("RPC_SERVICE_WITH_SLEEPS") else ["test_sleeping.py"]
