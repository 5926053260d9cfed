"""What a process that serves must have imported before it is walled in, and an Emperor need not.

Behind walls there may be no file of ours or of the interpreter's; what was imported before is
there. And what a zygote imports is memory that all its vassals share. Modules that are imported
late elsewhere, because an Emperor seldom needs them, are named here; a zygote imports them before
it is frozen, and any other process that serves before anything of its jail is made.
"""

from __future__ import annotations

import ctypes
import dataclasses  # half of all applications import it, and what it needs: let them share it
import difflib
import traceback
import urllib.parse

from donjon.config import options
from donjon.config.formats import inifile, jsonfile, tomlfile, xmlfile, yamlfile
from donjon.hooks import actions
from donjon.server import master, rehearsal

__all__ = [
    "actions", "ctypes", "dataclasses", "difflib", "inifile", "jsonfile", "master", "provide",
    "rehearsal", "tomlfile", "traceback", "urllib", "xmlfile", "yamlfile",
]  # fmt: skip


def provide() -> None:
    """Make the whole table of options as well, of which other processes make the half they use."""
    options.all_options()
