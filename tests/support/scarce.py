"""A process that cannot have what it needs."""

import contextlib
import os
import resource


@contextlib.contextmanager
def no_more_descriptors():
    """There is no descriptor to be had below."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
