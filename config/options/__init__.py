"""The table of every option, in one module an area. ``find`` is the only way to it."""
