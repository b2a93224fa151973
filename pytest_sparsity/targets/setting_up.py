"""Setting things up: folders that are whole or not there, and commands that must succeed."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from typing import TYPE_CHECKING

from pytest_sparsity import children, store
from pytest_sparsity.errors import Unsupported
from pytest_sparsity.targets import sealed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    Progress = Callable[[str], None]

# Seconds that one command may take: a slow connection takes minutes for 30 MB, not half an hour.
_PATIENCE = 1800.0


_CACHE = "set XDG_CACHE_HOME to a folder of your own that can be written"


def publish(final: Path, build: Callable[[Path], None], *, thoroughly: bool = False) -> None:
    """Build a folder aside, seal it and rename it, so that it is never seen half built.

    Does nothing if it is there and as it was sealed; what has been changed since is replaced. One
    process at a time builds; the lock ends with its process.

    Args:
        final: the folder.
        build: fills a folder.
        thoroughly: look at every byte of what is there.

    Raises:
        Unsupported: the cache cannot be written, or `build` says so.
    """
    if not sealed.fault(final, thoroughly=thoroughly):
        return
    try:
        with store.locked(final.parent / ".lock"):
            if sealed.fault(final, thoroughly=final.exists()):
                _replace(final, build)
    except OSError as error:
        raise Unsupported(f"{final} cannot be set up: {error}", _CACHE) from None


def _replace(final: Path, build: Callable[[Path], None]) -> None:
    aside = final.with_name(f".{final.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    build(aside)
    sealed.seal(aside)
    discard(final)
    aside.rename(final)


def discard(folder: Path) -> None:
    """Remove a folder in one step, as far as others can see."""
    away = folder.with_name(f".{folder.name}.discarded")
    shutil.rmtree(away, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        folder.rename(away)
    shutil.rmtree(away, ignore_errors=True)


def run(
    command: Sequence[str],
    doing: str,
    remedy: str = "fix that and run the command again; finished steps are kept",
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run a command that must succeed, and return what it prints.

    Args:
        command: program and arguments.
        doing: what this is, for the message.
        remedy: what to do if it fails.
        environment: the whole environment, by default this process's.

    Raises:
        Unsupported: it failed; with the line in which it says why.
    """
    try:
        ended = subprocess.run(
            children.guarded(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        reason = f"{doing} did not end within {_PATIENCE / 60:g} minutes"
        raise Unsupported(reason, remedy) from None
    except OSError as error:
        raise Unsupported(f"{doing} failed: {error}", remedy) from None
    if ended.returncode:
        raise Unsupported(f"{doing} failed: {_reason(ended.stderr or ended.stdout)}", remedy)
    return ended.stdout


def _reason(text: str) -> str:
    """Return the line of a tool's output that says why it failed: its first error or its last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["no reason given"]
    errors = [line for line in lines if line.startswith(("E:", "ERROR:")) or "error:" in line]
    return (errors or lines[-1:])[0]
