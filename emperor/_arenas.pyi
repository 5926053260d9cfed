"""The interpreter's objects in one range of memory, on huge pages, so that a fork copies less.

An arena is what CPython's allocator takes from the system at once (``PyObjectArenaAllocator``).
"""

def gather() -> bool:
    """Let objects made from now on lie in one range of 48 MiB, of which nothing is used yet; more
    lie anywhere, as before. A second time does nothing. False where there is no such range."""

def settle() -> bool:
    """Put what is in the range on huge pages (MADV_COLLAPSE of madvise(2), Linux 6.1), and give
    back what of it was never used: address space counts for RLIMIT_AS. Whether some are now;
    a second time, also in a child, does nothing."""
