"""How the documentation is built: `tox run -e docs`; warnings are errors."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from pytest_sparsity import __version__

project = "pytest-sparsity"
author = "The pytest-sparsity maintainers"
copyright = "the pytest-sparsity maintainers"  # noqa: A001  (Sphinx names it so)
version = release = __version__

extensions = [
    "live",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinxarg.ext",
]
exclude_patterns = ["_build", "_ext"]
html_theme = "furo"
html_title = "pytest-sparsity"
nitpicky = False
myst_heading_anchors = 3
autodoc_typehints = "description"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_use_ivar = True
# There is no network where the documentation is built, so links to the web are only parsed.
linkcheck_ignore = ["https?://.*"]
