"""Importing this gives `yaml`, which scripts/setup test installs for the system's Python: another one starts again there."""

import os
import sys

try:
    import yaml  # noqa: F401
except ImportError:
    if sys.executable == "/usr/bin/python3":
        raise
    os.execv("/usr/bin/python3", ["/usr/bin/python3", *sys.argv])
