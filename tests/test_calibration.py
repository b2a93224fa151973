"""Inputs to calibrate with, in every form that people have them in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_sparsity.variants.calibration import checked_samples, read_samples, write_samples


@dataclass(frozen=True)
class Tensor:
    """What a Keras tensor tells."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str = "float32"


IMAGE = Tensor("image", (1, 4, 4, 3))
POINT = Tensor("point", (1, 2))
IMAGES = np.arange(3 * 48, dtype=np.float32).reshape(3, 4, 4, 3)
POINTS = np.arange(6, dtype=np.float32).reshape(3, 2)


def generator() -> Iterator[Any]:
    for image in IMAGES:
        yield [image[None]]


FORMS: dict[str, Any] = {
    "an array": IMAGES,
    "of doubles": IMAGES.astype(np.float64),
    "a list": list(IMAGES),
    "with a batch dimension": [image[None] for image in IMAGES],
    "batches": [IMAGES[:2], IMAGES[2:]],
    "lists of one": [[image] for image in IMAGES],
    "with labels": [(image, 7) for image in IMAGES],
    "batches with labels": [(IMAGES, np.zeros(3))],
    "by name": [{"image": image} for image in IMAGES],
    "an array by name": {"image": IMAGES},
    "an iterator": iter(IMAGES),
    "a generator": generator(),
    "nested lists": [{"image": image} for image in IMAGES.tolist()],
}


@pytest.mark.parametrize("form", FORMS)
def test_one_input_in_every_form(form: str) -> None:
    samples = checked_samples(FORMS[form], [IMAGE])
    assert [sample["image"].tolist() for sample in samples] == [[x.tolist()] for x in IMAGES]
    assert {sample["image"].dtype for sample in samples} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    "given",
    [
        {"point": POINTS, "image": IMAGES},
        [{"point": p, "image": i} for p, i in zip(POINTS, IMAGES, strict=True)],
        [[i[None], p[None]] for p, i in zip(POINTS, IMAGES, strict=True)],
        [(i, p) for p, i in zip(POINTS, IMAGES, strict=True)],
        [((i, p), 0) for p, i in zip(POINTS, IMAGES, strict=True)],
        [({"point": p, "image": i}, 0) for p, i in zip(POINTS, IMAGES, strict=True)],
        [[IMAGES, POINTS]],
    ],
    ids=["arrays", "named", "lists", "tuples", "labels", "named and labels", "a batch"],
)
def test_two_inputs_go_by_their_names(given: Any) -> None:
    samples = checked_samples(given, [IMAGE, POINT])
    assert [sample["image"].tolist() for sample in samples] == [[x.tolist()] for x in IMAGES]
    assert [sample["point"].tolist() for sample in samples] == [[x.tolist()] for x in POINTS]


def test_a_dataset_of_tensorflow_in_batches_or_not() -> None:
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices((IMAGES, np.zeros(3)))
    for given in (dataset, dataset.batch(2)):
        samples = checked_samples(given, [IMAGE])
        assert [sample["image"].tolist() for sample in samples] == [[x.tolist()] for x in IMAGES]


def test_a_batch_of_the_network_stays_together() -> None:
    [sample] = checked_samples(IMAGES, [Tensor("image", (3, 4, 4, 3))])
    assert sample["image"].shape == (3, 4, 4, 3)
    with pytest.raises(ValueError, match="sample 0 has a batch of 3"):
        checked_samples(IMAGES, [Tensor("image", (2, 4, 4, 3))])


def test_an_open_batch_takes_one_at_a_time() -> None:
    assert len(checked_samples(IMAGES, [Tensor("image", (None, None, None, 3))])) == 3


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([], "representative returned no samples"),
        (3, r"it returned int$"),
        (None, r"samples of 'image' float32 \(1, 4, 4, 3\).*it returned NoneType"),
        ([np.zeros((4, 4))], r"sample 0 gives 'image' the shape \(4, 4\), and the network takes"),
        ([IMAGES[0], IMAGES[0][:2]], r"sample 1 gives 'image' the shape \(2, 4, 3\)"),
        ([[IMAGES[0]] * 3], "sample 0 has 3 inputs, and the network takes 'image' float32"),
        ([{"picture": IMAGES[0]}], r"sample 0 has \['picture'\], and the network takes 'image'"),
        ([IMAGES[0] * np.nan], "values that are NaN or infinite"),
        ([np.full((4, 4, 3), "x")], "gives 'image' values of <U1"),
    ],
    ids=range(9),
)
def test_what_does_not_fit_is_named(given: Any, says: str) -> None:
    with np.errstate(invalid="ignore"), pytest.raises(ValueError, match=says):
        checked_samples(given, [IMAGE])


def test_samples_survive_their_file(tmp_path: Path) -> None:
    samples = checked_samples({"point": POINTS, "image": IMAGES}, [IMAGE, POINT])
    read = list(read_samples(write_samples(samples, tmp_path / "samples.npz")))
    assert len(read) == 3
    for before, after in zip(samples, read, strict=True):
        assert {name: array.tolist() for name, array in after.items()} == {
            name: array.tolist() for name, array in before.items()
        }
