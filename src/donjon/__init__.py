"""donjon: an Emperor that keeps strangers' applications serving, each in a jail of its own.

The packages stand in one order, and import only what stands before them: ``origin``, ``errors fd
log``, ``syscalls``, ``netns``, ``jail`` (beside ``tuntap`` and ``fork_pty``), ``hooks``,
``server``, ``config``, ``emperor``, ``instance``, ``verbs``, ``cli``.
"""

__version__ = "0.1.0"
