"""Hooks: what a user asked to happen in a phase. ``actions`` is the table, ``runner`` makes steps of them."""
