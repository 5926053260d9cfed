"""The forkpty router and its client (not built yet; their options are reported by name)."""
