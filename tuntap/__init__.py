"""The TunTap router. Built so far: its firewall (``rules``, ``flow``, ``_firewall``).

Its options are reported by name, as not built yet.
"""
