from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from pytest_sparsity.errors import SparsityWarning
from pytest_sparsity.variants import cache


def publish(store: Path, key: str = "key", content: bytes = b"weights") -> cache.Entry:
    with cache.locked(store, key), cache.workspace(store) as folder:
        (folder / "a.tflite").write_bytes(content)
        return cache.publish(store, key, folder, {"dense": "a.tflite"}, (1, 2))


def test_what_was_published_is_loaded(tmp_path: Path) -> None:
    published = publish(tmp_path)
    loaded = cache.load(tmp_path, "key")
    assert loaded == published
    assert loaded is not None
    assert loaded.files["dense"].read_bytes() == b"weights"
    assert loaded.about == [1, 2]


def test_an_entry_that_others_can_change_is_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = publish(tmp_path)
    entry.files["dense"].chmod(0o666)
    with pytest.warns(
        SparsityWarning, match=r"\(a\.tflite can be written by everybody\); they are"
    ):
        assert cache.load(tmp_path, "key") is None
    assert publish(tmp_path) == cache.load(tmp_path, "key")
    os.chown(entry.folder, os.getuid() or 12345, -1)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    with pytest.warns(SparsityWarning, match=r"\(key belongs to another user\); they are"):
        assert cache.load(tmp_path, "key") is None


def test_a_careless_umask_leaves_no_entry_that_everybody_can_write(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        entry = publish(tmp_path)
    finally:
        os.umask(before)
    assert entry == cache.load(tmp_path, "key")


def test_a_manifest_that_leads_elsewhere_is_none(tmp_path: Path) -> None:
    entry = publish(tmp_path)
    manifest = entry.folder / cache.MANIFEST
    manifest.write_text(manifest.read_text().replace("a.tflite", "../a.tflite"))
    with pytest.warns(SparsityWarning, match=r"names a\.tflite elsewhere"):
        assert cache.load(tmp_path, "key") is None


def test_what_was_not_published_is_none(tmp_path: Path) -> None:
    assert cache.load(tmp_path, "key") is None
    assert cache.load(tmp_path / "nowhere", "key") is None


DAMAGES: dict[str, tuple[str, str | None, str]] = {
    "changed": ("a.tflite", "weightz", r"a\.tflite has changed"),
    "truncated": ("a.tflite", "", r"a\.tflite has changed"),
    "missing": ("a.tflite", None, r"a\.tflite is missing"),
    "no manifest": ("manifest.json", None, r"manifest\.json"),
    "no JSON": ("manifest.json", "{", r"manifest\.json"),
    "other JSON": ("manifest.json", "[]", r"manifest\.json"),
    "other schema": (
        "manifest.json",
        json.dumps({"schema": 0, "files": {}, "about": None}),
        "has schema 0",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_reported_and_built_again(tmp_path: Path, damage: str) -> None:
    name, content, says = DAMAGES[damage]
    path = publish(tmp_path).folder / name
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.warns(SparsityWarning, match=says):
        assert cache.load(tmp_path, "key") is None
    publish(tmp_path)
    entry = cache.load(tmp_path, "key")
    assert entry is not None
    assert entry.files["dense"].read_bytes() == b"weights"


def test_the_same_files_again_leave_the_entry_alone(tmp_path: Path) -> None:
    before = publish(tmp_path).files["dense"].stat()
    after = publish(tmp_path).files["dense"].stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_other_files_replace_the_entry(tmp_path: Path) -> None:
    publish(tmp_path)
    assert publish(tmp_path, content=b"others").files["dense"].read_bytes() == b"others"


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with cache.workspace(tmp_path) as folder:
            (folder / "a.tflite").write_bytes(b"half")
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_publication_without_the_lock_that_comes_second_is_harmless(tmp_path: Path) -> None:
    with cache.workspace(tmp_path) as late:
        (late / "a.tflite").write_bytes(b"weights")
        publish(tmp_path)
        entry = cache.publish(tmp_path, "key", late, {"dense": "a.tflite"}, (1, 2))
    assert entry == cache.load(tmp_path, "key")


def test_only_entries_that_nobody_reads_are_removed(tmp_path: Path) -> None:
    long_ago = time.time() - (cache.UNUSED_DAYS + 1) * 86400
    for key in ("forgotten", "read"):
        os.utime(publish(tmp_path, key).folder, (long_ago, long_ago))
    abandoned = tmp_path / ".building-killed"
    abandoned.mkdir()
    os.utime(abandoned, (long_ago, long_ago))
    assert cache.load(tmp_path, "read") is not None
    publish(tmp_path, "new")
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"read", "new"}


def test_one_process_builds_while_the_others_wait(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from pytest_sparsity.variants import cache
        store = Path(sys.argv[1])
        with cache.locked(store, "key"):
            entry = cache.load(store, "key")
            if entry is None:
                print("built")
                with cache.workspace(store) as folder:
                    time.sleep(0.3)
                    (folder / "a").write_bytes(b"x")
                    entry = cache.publish(store, "key", folder, {"a": "a"}, None)
            assert entry.files["a"].read_bytes() == b"x"
        """
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    children = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(3)
    ]
    outputs = [child.communicate(timeout=60)[0] for child in children]
    assert [child.returncode for child in children] == [0, 0, 0]
    assert sorted(outputs) == ["", "", "built\n"]
