"""A target of one's own: LiteRT with the kernels of TFLite instead of XNNPACK's."""

import importlib.metadata
import importlib.util
import os
import sys
from pathlib import Path

from pytest_sparsity import Launch, Place, Runtime, Target, Unsupported

PLAIN = Runtime("litert-plain", module="plain_litert", packages=("ai-edge-litert",))


class Here(Place):
    """This machine; what differs from `Native` is where Python finds the module."""

    def missing(self, runtime):
        if importlib.util.find_spec("ai_edge_litert") is None:
            return Unsupported("litert is not installed", "python -m pip install ai-edge-litert")
        return None

    def version(self, runtime):
        return importlib.metadata.version("ai-edge-litert")

    def launch(self, runtime, threads):
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
        return Launch((sys.executable, *runtime.worker()), environment)


def pytest_sparsity_targets(config):
    return [Target("litert-plain", PLAIN, Here())]
