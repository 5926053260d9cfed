"""Every raw call, constant and kernel struct, taken from the headers. No policy here."""
