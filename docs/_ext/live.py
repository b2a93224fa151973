"""Directives for what must not be written down twice: commands with their output, and options.

    ```{terminal} pytest-sparsity explain sparse.tflite
    ```

runs the command when the documentation is built, in a folder with the files of `examples`, and
shows both. A command that ends with another exit status than `:status:` (0) fails the build.
`sphinx-build -D run_terminals=0` leaves the outputs out, to look at the rest in seconds.

    ```{plugin-options}
    ```

lists the flags and the ini values that the plugin registers.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import examples
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from sphinx.application import Sphinx

SECONDS = 300


class Terminal(SphinxDirective):
    """A command and what it prints; the body, if any, is written to `test_example.py` first."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {
        "status": directives.nonnegative_int,
        "lines": directives.positive_int,
    }

    def run(self) -> list[nodes.Node]:
        """Return the literal block."""
        if not self.config.run_terminals:
            return [nodes.literal_block("", f"$ {self.arguments[0]}")]
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            examples.write(folder)
            if self.content:
                (folder / "test_example.py").write_text("\n".join(self.content), encoding="utf-8")
            done = subprocess.run(
                shlex.split(self.arguments[0]),
                cwd=folder,
                env={**os.environ, "COLUMNS": "100", "PYTHONDONTWRITEBYTECODE": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=SECONDS,
                check=False,
            )
            printed = done.stdout.replace(f"{folder.resolve()}/", "").rstrip()
        wanted = self.options.get("status", 0)
        if done.returncode != wanted:
            raise self.error(f"exit status {done.returncode} instead of {wanted}:\n{printed}")
        shown = printed.splitlines()
        most = self.options.get("lines", len(shown))
        if len(shown) > most:
            shown = [*shown[:most], "..."]
        text = "\n".join([f"$ {self.arguments[0]}", *shown])
        block = nodes.literal_block(text, text)
        block["language"] = "text"
        return [block]


class PluginOptions(SphinxDirective):
    """A table of the plugin's flags or ini values: `:kind:` is `flags`, `suite` or `ini`."""

    option_spec: ClassVar[dict[str, Any]] = {
        "kind": lambda given: directives.choice(given, ("flags", "suite", "ini"))
    }

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        kind = self.options["kind"]
        rows = examples.ini_values() if kind == "ini" else examples.flags(kind)
        table = "\n".join(
            ["| name | default | what it does |", "| --- | --- | --- |"]
            + [f"| `{name}` | {default} | {text} |" for name, default, text in rows]
        )
        return self.parse_text_to_nodes(table)


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directives."""
    app.add_config_value("run_terminals", True, "env")
    app.add_directive("terminal", Terminal)
    app.add_directive("plugin-options", PluginOptions)
    return {"parallel_read_safe": True}
