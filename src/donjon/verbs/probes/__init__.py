"""What ``donjon doctor`` tries, one module an area; each has ``findings()``."""
