"""The forkpty router and its client. To come; their options are reported by name."""
