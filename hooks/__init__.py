"""Hooks: what a user asked to happen in a phase. ``actions`` is the table, ``runner`` makes steps.

``action`` says what a row of the table is; ``files``, ``mounts``, ``processes``, ``calls`` and
``waits`` hold the functions behind the rows, by area. Syntax is checked when the steps are made;
the system is touched only when they run.
"""
