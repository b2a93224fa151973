"""Performance claims about pruned TFLite models, as tests that say why they fail."""

from __future__ import annotations

__version__ = "0.1.0"
