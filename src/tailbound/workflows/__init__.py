"""One package or module for each command: checks, work and results, without a terminal."""
