"""What ``donjon audit`` looks at: facts from /proc, checks of them, and attempts from inside."""
