"""Runs models on one runtime, which must have a process of its own.

    python tests/data/run.py litert|tflite-runtime OUTPUTS.npz MODEL ...

Every input is numpy's PCG64 of seed 0, uniform in [0, 1). The archive holds the outputs by
`MODEL'S POSITION/default|builtin/OUTPUT'S POSITION`.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import numpy as np

MODULES = {
    "litert": "ai_edge_litert.interpreter",
    "tflite-runtime": "tflite_runtime.interpreter",
}


def outputs(interpreter: Any) -> list[Any]:
    rng = np.random.default_rng(0)
    interpreter.allocate_tensors()
    for described in interpreter.get_input_details():
        values = rng.random(described["shape"], np.float32)
        interpreter.set_tensor(described["index"], values)
    interpreter.invoke()
    return [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]


def main(runtime: str, archive: str, models: list[str]) -> None:
    module: Any = import_module(MODULES[runtime])
    kernels = {
        "default": module.OpResolverType.AUTO,
        "builtin": module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    }
    arrays = {}
    for m, path in enumerate(models):
        for name, resolver in kernels.items():
            interpreter = module.Interpreter(path, experimental_op_resolver_type=resolver)
            for o, values in enumerate(outputs(interpreter)):
                arrays[f"{m}/{name}/{o}"] = values
    np.savez(archive, **arrays)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
