"""Starts the worker: `python FOLDER RUNTIME [--counts FILE]`."""

from __future__ import annotations

import importlib
import json
import os
import sys
import types
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGE = "pytest_sparsity_worker"


def main(arguments: list[str]) -> None:
    """Keep descriptors 0 and 1 for the protocol, import the runtime and serve."""
    runtime, *rest = arguments
    counts = Path(rest[1]) if rest[:1] == ["--counts"] else None
    # Native libraries print to descriptor 1 whatever Python's sys.stdout is.
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    # The modules here are those of a package, or they would answer to other people's imports.
    sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != HERE]
    package = types.ModuleType(PACKAGE)
    package.__path__ = [str(HERE)]
    sys.modules[PACKAGE] = package
    server = importlib.import_module(f"{PACKAGE}.server")
    server.serve(json.loads(runtime), counts, requests, answers)


if __name__ == "__main__":
    main(sys.argv[1:])
