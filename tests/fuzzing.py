"""What is fuzzed: for each subject a function of bytes that raises if it finds a fault.

A fault is an exception that the documentation of what is called does not name, or a property that
does not hold. `benchmarks/fuzz.py` searches for such bytes, guided by coverage; what it once found
is in `data/fuzzing/KIND/regressions` and is replayed with the seeds by `test_fuzzing.py`.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pytest_sparsity import encoding, transform, xnnpack
from pytest_sparsity.baseline import files as baselines
from pytest_sparsity.diagnosis import Diagnosis, lines
from pytest_sparsity.diagnosis.diagnosis import conclude
from pytest_sparsity.encoding import Sparsity
from pytest_sparsity.errors import ModelError
from pytest_sparsity.model import Model, schema
from pytest_sparsity.model.flatbuffer import Flatbuffer, Table, read
from pytest_sparsity.model.serializer import pieces
from pytest_sparsity.targets import Target

T = TypeVar("T")
FOLDER = Path(__file__).parent / "data" / "fuzzing"
# Gates open and closed, the oldest and the newest rules, WebAssembly's own.
MACHINES = (
    ("litert", "2.3.0", "litert", "aarch64", frozenset({"asimd"})),
    ("litert-js", "2.5.3", "litert-js", "wasm32", frozenset({"simd128", "relaxed-simd"})),
    ("tflite-runtime", "2.14.0", "tflite-runtime", "x86_64", frozenset({"avx2"})),
    ("tensorflow", "2.19.0", "tensorflow", "aarch64", frozenset({"asimd"})),
)
# A tensor of more values is not compared value by value: that would only take time.
COMPARED = 1 << 16


@cache
def _scratch() -> Path:
    return Path(tempfile.mkdtemp(prefix="fuzzing-"))


def _file(data: bytes, name: str) -> Path:
    """A new file; writing over the old one would pull it from under whoever has mapped it."""
    path = _scratch() / name
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    return path


def _try(look: Callable[[], T], path: Path | None = None) -> T | None:
    """What a look gives; None if it is refused, of which the message names the file."""
    try:
        return look()
    except (ModelError, baselines.BaselineError) as error:
        message = str(error)
    assert path is None or message.startswith(str(path))
    return None


def _model(data: bytes) -> Model | None:
    path = _file(data, "model.tflite")
    return _try(lambda: Model(path), path)


def _values(model: Model) -> list[NDArray[Any]] | None:
    """All constants, decoded; None if any is damaged."""
    constants = [
        (tensor.index, g)
        for g, graph in enumerate(model.graphs)
        for tensor in graph.tensors
        if tensor.constant
    ]
    return _try(lambda: [model.weights(*key) for key in constants], model.path)


def reader(data: bytes) -> None:
    """A file is a model with facts, or a ModelError; written again it has the same facts."""
    model = _model(data)
    if model is None:
        return
    for name in ("layers", "sparsity", "decoded_nbytes"):
        _try(partial(getattr, model, name), model.path)
    assert model.stateful in {True, False}
    content = _try(lambda: b"".join(bytes(piece) for piece in pieces(model.flatbuffer())))
    if content is None:
        return
    again = Model(_file(content, "again.tflite"))
    assert repr(again.graphs) == repr(model.graphs)
    assert again.signature == model.signature
    _assert_same(_values(model), _values(again))


def rules(data: bytes) -> None:
    """The rules say something of every model that can be read, on every runtime."""
    model = _model(data)
    if model is None or _try(lambda: model.layers) is None:
        return
    for runtime, version, target, arch, features in MACHINES:
        diagnosis = _try(partial(_diagnosed, model, runtime, version, target, arch, features))
        if diagnosis is not None:
            assert len(diagnosis.kernels) == len(model.layers)
            assert diagnosis.verdict in {"sparse", "dense", "miscomputes", "fails"}
            assert diagnosis.headline
            assert all(line.isprintable() for line in lines(diagnosis))


def _diagnosed(
    model: Model, runtime: str, version: str, target: str, arch: str, features: frozenset[str]
) -> Diagnosis:
    analysis = xnnpack.analyse(model, runtime, version, arch, features)
    return conclude(analysis, Target.of(target), None, None, 1)


def rewriting(data: bytes) -> None:
    """A densified or encoded copy has the same constants; a shrunk or repaired one is a model."""
    model = _model(data)
    if model is None:
        return
    out = _scratch() / "out.tflite"
    for write in (transform.densify, transform.encode):
        copy = _try(partial(write, model, out))
        if copy is not None:
            _assert_same(_values(model), _values(copy))
            assert write is transform.encode or not copy.encoded
    for change in (transform.shrink, transform.repair):
        if _try(partial(change, model, out)) is not None:
            Model(out)


def _assert_same(ours: list[NDArray[Any]] | None, others: list[NDArray[Any]] | None) -> None:
    if ours is None:
        return
    assert others is not None
    assert len(ours) == len(others)
    for one, other in zip(ours, others, strict=True):
        assert one.shape == other.shape
        # -0.0 is a zero, which an encoding leaves out.
        assert np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


class Taken:
    """Bytes that are taken one after the other; zeros where there are no more."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    def bytes(self, count: int) -> bytes:
        """The next so many bytes."""
        found = self._data[self._place :][:count]
        self._place += count
        return found.ljust(count, b"\0")

    def number(self, below: int = 256) -> int:
        """The next byte as a number below a bound."""
        return self.bytes(1)[0] % below

    def numbers(self, dtype: str = "int8") -> NDArray[Any]:
        """A vector, its length before it."""
        count = self.number()
        return np.frombuffer(self.bytes(count * np.dtype(dtype).itemsize), dtype)


def taken(data: bytes) -> tuple[NDArray[Any], tuple[int, ...], Sparsity]:
    """Values, a shape and an encoding, whether they fit or not; `given` is the other way."""
    bits = Taken(data)
    shape = tuple(bits.numbers("<u2").tolist())[:6]
    order, block_map, sizes = (
        tuple(bits.numbers().tolist()),
        tuple(bits.numbers().tolist()),
        tuple(bits.numbers("<i2").tolist()),
    )
    formats = tuple("dense" if bits.number() % 2 else "csr" for _ in range(bits.number()))
    vectors: list[list[NDArray[Any] | None]] = [[], []]
    for some in vectors:
        for _ in range(bits.number()):
            dtype = ("", "u1", "<u2", "<i4")[bits.number(4)]
            some.append(bits.numbers(dtype) if dtype else None)
    sparsity = Sparsity(order, block_map, sizes, formats, *(tuple(some) for some in vectors))
    return bits.numbers(("i1", "<f2", "<f4")[bits.number(3)]), shape, sparsity


def given(values: NDArray[Any], shape: tuple[int, ...], sparsity: Sparsity) -> bytes:
    """The bytes of which `taken` makes these: for seeds."""

    def vector(numbers: object, dtype: str) -> bytes:
        array = np.asarray(numbers, dtype)
        return bytes([array.size]) + array.tobytes()

    parts = [vector(shape, "<u2"), vector(sparsity.traversal_order, "i1")]
    parts += [vector(sparsity.block_map, "i1"), vector(sparsity.dense_sizes, "<i2")]
    parts.append(bytes([len(sparsity.formats), *(f == "dense" for f in sparsity.formats)]))
    for arrays in (sparsity.segments, sparsity.indices):
        parts.append(bytes([len(arrays)]))
        for array in arrays:
            if array is None:
                parts.append(b"\0")
            else:
                parts.append(bytes([array.dtype.itemsize if array.dtype.itemsize < 4 else 3]))
                parts.append(vector(array, array.dtype.str))
    which = {1: 0, 2: 1, 4: 2}[values.dtype.itemsize]
    return b"".join([*parts, bytes([which]), vector(values, values.dtype.str)])


def decoding(data: bytes) -> None:
    """An encoding is refused or decodes to what one goes through position by position to find."""
    values, shape, sparsity = taken(data)
    try:
        dense = encoding.decode(values, shape, sparsity)
    except ValueError:
        return
    assert dense.shape == shape
    assert encoding.label(sparsity)
    if dense.size > COMPARED:
        return
    if min(shape, default=1) > 0:
        np.testing.assert_array_equal(dense, _walked(values, shape, sparsity))
    for block in (1, 2, 4):
        if dense.ndim in (2, 4) and dense.shape[-1] % block == 0:
            back = encoding.decode(*_encoded(dense, block))
            np.testing.assert_array_equal(back, dense)


def _encoded(dense: NDArray[Any], block: int) -> tuple[NDArray[Any], tuple[int, ...], Sparsity]:
    values, sparsity = encoding.encode(dense, block)
    return values, dense.shape, sparsity


def _walked(values: NDArray[Any], shape: tuple[int, ...], sparsity: Sparsity) -> NDArray[Any]:
    """Decode by recursion over positions, as the schema describes the format."""
    dense = np.zeros(shape, values.dtype)
    rest = iter(values.tolist())
    blocks = dict(zip(sparsity.block_map, sparsity.blocks, strict=True))
    rank = len(shape)

    def walk(level: int, parent: int, at: Mapping[int, int]) -> None:
        if level == len(sparsity.traversal_order):
            place = tuple(
                at[d] * blocks.get(d, 1)
                + (at[rank + sparsity.block_map.index(d)] if d in blocks else 0)
                for d in range(rank)
            )
            value = next(rest)
            if all(p < size for p, size in zip(place, shape, strict=True)):
                dense[place] = value
            return
        dimension = sparsity.traversal_order[level]
        segments, indices = sparsity.segments[level], sparsity.indices[level]
        if sparsity.formats[level] == "dense":
            size = sparsity.dense_sizes[level]
            children = [(parent * size + i, i) for i in range(size)]
        else:
            assert segments is not None
            assert indices is not None
            places = range(int(segments[parent]), int(segments[parent + 1]))
            children = [(place, int(indices[place])) for place in places]
        for child, position in children:
            walk(level + 1, child, {**at, dimension: position})

    if values.size:
        walk(0, 0, {})
        assert next(rest, None) is None
    return dense


def recorded(data: bytes) -> None:
    """A file of baselines is refused in a line or two, or is the same when written and read."""
    path = _file(data, "test_a.json")
    values = _try(lambda: baselines.read(path), path)
    if values is None:
        return
    baselines.write(path, values)
    written = path.read_bytes()
    baselines.write(path, baselines.read(path))
    assert path.read_bytes() == written


SUBJECTS: Mapping[str, Callable[[bytes], None]] = {
    "reader": reader,
    "rules": rules,
    "rewriting": rewriting,
    "encoding": decoding,
    "baselines": recorded,
}
# What kind of files each takes.
KINDS = {subject: subject for subject in SUBJECTS}
KINDS |= dict.fromkeys(("reader", "rules", "rewriting"), "models")


# Changes of a file's values rather than of its bytes, most of which no reader would get past.

NUMBERS = (-1, 0, 1, 2, 3, 4, 7, 8, 16, 127, 255, 1 << 15, (1 << 31) - 1, -(1 << 31))


def mutated(data: bytes, rng: random.Random) -> bytes | None:
    """Change some values of a model's file; None if it cannot be read."""
    try:
        flatbuffer = read(data)
        for _ in range(rng.randint(1, 4)):
            _change(flatbuffer, rng)
        return b"".join(bytes(piece) for piece in pieces(flatbuffer))
    except Exception:
        return None  # whatever cannot be written is no candidate


def _tables(table: Table) -> Iterator[Table]:
    yield table
    for value in list(table.fields.values()):
        for each in value if isinstance(value, list) else (value,):
            if isinstance(each, Table):
                yield from _tables(each)


def _change(flatbuffer: Flatbuffer, rng: random.Random) -> None:
    every = list(_tables(flatbuffer.root))
    # Of each kind one table is as likely as of any other, however many it has.
    kind = rng.choice(sorted({table.kind for table in every}))
    table = rng.choice([table for table in every if table.kind == kind])
    described = rng.choice(schema.fields(kind) or schema.fields("Tensor"))
    if described not in schema.fields(kind):
        return
    others = [t.fields[described.name] for t in every if t.kind == kind and described.name in t]
    change = _scalar if described.shape == "scalar" else _several
    change(table, described, others, rng)


def _scalar(table: Table, this: schema.Field, others: list[Any], rng: random.Random) -> None:
    low, high = {"b": (-128, 127), "B": (0, 255), "H": (0, 65535), "I": (0, 2**32 - 1)}.get(
        this.of, (-(1 << 31), (1 << 31) - 1) if this.of == "i" else (0, (1 << 40))
    )
    choices = [*NUMBERS, *schema.numbers(this.enum).values()] if this.enum else list(NUMBERS)
    value = rng.choice([rng.choice(choices), *others[:8]])
    if this.of == "f":
        table.fields[this.name] = float(rng.choice([value, 0.5, float("nan"), float("inf")]))
    elif this.of == "?":
        table.fields[this.name] = bool(value)
    else:
        table.fields[this.name] = min(max(int(value), low), high)


def _several(table: Table, this: schema.Field, others: list[Any], rng: random.Random) -> None:
    value, choice = table[this.name], rng.random()
    if choice < 0.1:
        del table[this.name]
    elif choice < 0.3 and others:
        other = rng.choice(others)
        if this.shape == "union":
            table[this.name] = other
        else:
            table.fields[this.name] = other
    elif this.shape == "vector":
        table.fields[this.name] = _vector(value, rng)
    elif this.shape == "string":
        table.fields[this.name] = rng.choice([b"", b"a\n\x1b[31m", b"\xff", "\u202e".encode()])
    elif this.shape == "tables" and value:
        table.fields[this.name] = _listed(list(value), rng)


def _vector(value: NDArray[Any], rng: random.Random) -> NDArray[Any]:
    array = value.copy()
    choice = rng.random()
    if choice < 0.6 and array.size:
        number = rng.choice([*NUMBERS, int(array.flat[rng.randrange(array.size)])])
        limits = np.iinfo(array.dtype) if array.dtype.kind in "iu" else None
        if limits:
            number = min(max(number, int(limits.min)), int(limits.max))
        array.flat[rng.randrange(array.size)] = number
        return array
    if choice < 0.8:
        return np.append(array, array[-1:] if array.size else np.ones(1, array.dtype))
    return array[: rng.randint(0, array.size)]


def _listed(tables: list[Table], rng: random.Random) -> list[Table]:
    one, other = (rng.randrange(len(tables)) for _ in range(2))
    choice = rng.random()
    if choice < 0.3:
        del tables[one]
    elif choice < 0.6:
        tables.insert(one, tables[other])
    else:
        tables[one], tables[other] = tables[other], tables[one]
    return tables


def folders(subject: str) -> tuple[Path, Path]:
    """Where the seeds and the regressions of a subject are."""
    folder = FOLDER / KINDS[subject]
    return folder / "seeds", folder / "regressions"


def cases() -> list[tuple[str, Path]]:
    """Every subject with every seed and regression of its kind."""
    return [
        (subject, path)
        for subject in SUBJECTS
        for folder in folders(subject)
        for path in sorted(folder.glob("*"))  # git keeps no empty folder
    ]
