"""Keeping a zygote's memory shared: no holes for newborns to fill.

A page that a child writes is copied (fork(2)). The allocator of CPython gives out the free blocks
of pools that are partly used, wherever they lie; after hundreds of imports these are holes on
almost every page, so that a child which makes a thousand small objects copies hundreds of pages.
``fill_holes`` takes all free blocks once, with objects that nobody touches again; what is made
later comes from fresh pages, packed.
"""

from __future__ import annotations

import os
import re
import sys

_ROW = re.compile(rb"^ *\d+ +(\d+) +\d+ +\d+ +(\d+)$", re.MULTILINE)
_BYTES_HEADER = sys.getsizeof(b"")
_kept: list[object] = []


def holes() -> dict[int, int]:
    """Return the number of free blocks by size in bytes, {} where the interpreter does not
    tell."""
    show = getattr(sys, "_debugmallocstats", None)
    if show is None:
        return {}
    saved = os.dup(2)
    memory = os.memfd_create("mallocstats", os.MFD_CLOEXEC)
    try:
        os.dup2(memory, 2)
        show()
    finally:
        os.dup2(saved, 2)
        os.close(saved)
    text = os.pread(memory, 1 << 20, 0)
    os.close(memory)
    return {int(size): int(free) for size, free in _ROW.findall(text)}


def fill_holes() -> int:
    """Fill every free block; return how many. To be called before gc.freeze()."""
    count = 0
    for size, free in holes().items():
        if size == 16:
            _kept.extend([object() for _ in range(free)])
        elif size == 32:
            _kept.extend([float(number) for number in range(free)])
        else:
            _kept.extend([bytes(size - _BYTES_HEADER) for _ in range(free)])
        count += free
    return count
