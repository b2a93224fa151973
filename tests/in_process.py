"""The converter without its child process, whose import of TensorFlow takes seconds."""

from __future__ import annotations

from pathlib import Path

from pytest_sparsity.variants import converter


class InProcess:
    """The converter without a child process, to save its import of TensorFlow."""

    def close(self) -> None: ...

    def convert(
        self, saved_model: Path, path: Path, quantize: str | None, samples: Path | None
    ) -> None:
        path.write_bytes(converter.convert(saved_model, quantize, samples))

    def sparsify(self, source: Path, path: Path) -> None:
        path.write_bytes(converter.sparsify(source))
