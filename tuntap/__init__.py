"""The TunTap router: device, rules, data plane. To come; its options are reported by name."""
