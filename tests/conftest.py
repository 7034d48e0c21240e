"""Settings of all tests."""

from __future__ import annotations

from hypothesis import settings

# the same examples in every run, and no clock: a busy machine is no failure
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")
