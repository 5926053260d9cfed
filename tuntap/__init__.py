"""The TunTap router: device, rules, data plane (not built yet; its options are reported by name)."""
