"""Settings of all tests."""

from __future__ import annotations

import os

from hypothesis import settings

# one thread per process, which sleeps while it waits: threads that share cores spin for minutes
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# the same examples in every run, and no clock: a busy machine is no failure
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")
