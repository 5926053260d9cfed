"""Tests that boot a kernel of their own: cgroup v2 limits, old kernels, power cuts (to come)."""
