"""Hypothesis' profiles: `--hypothesis-profile=nightly` tries more, and others each time."""

from __future__ import annotations

from hypothesis import settings

# Examples are timed by nobody: a deadline would only fail on a busy machine.
settings.register_profile("quick", max_examples=50, derandomize=True, deadline=None)
settings.register_profile("nightly", max_examples=500, deadline=None, print_blob=True)
settings.load_profile("quick")
