"""Files taken apart and put together again: nothing lost, seen by readers that are not ours."""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_sparsity.errors import ModelError
from pytest_sparsity.model import Model, replace_file, schema
from pytest_sparsity.model.flatbuffer import Flatbuffer, Table, read
from pytest_sparsity.model.serializer import pieces
from pytest_sparsity.writer import Network

if TYPE_CHECKING:
    from types import ModuleType

DATA = Path(__file__).parent / "data"
FILES = sorted(DATA.glob("*.tflite"))
TOOL = Path(__file__).parent.parent / "tools" / "schema.py"
needs_litert = pytest.mark.skipif(not find_spec("ai_edge_litert"), reason="no ai_edge_litert")


def written(flatbuffer: Flatbuffer) -> bytes:
    return b"".join(pieces(flatbuffer))


def official() -> ModuleType:
    """The code that flatc generates from the schema, in LiteRT's package."""
    return import_module("ai_edge_litert.schema_py_generated")


def plain(value: Any) -> Any:
    """A table of the official object API as plain values."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, list):
        return [plain(each) for each in value]
    if hasattr(value, "__dict__"):
        return {name: plain(each) for name, each in vars(value).items()}
    return value


def small() -> bytes:
    net = Network((1, 8))
    kernel = np.eye(8, dtype=np.float32)
    net.output(net.fully_connected(net.input, kernel, name="kernel", encoding="sparse"))
    return net.to_bytes()


# ------------------------------------------------------------------------------------- schema


@needs_litert
def test_the_schema_agrees_with_the_official_code() -> None:
    """LiteRT's package may be older than the schema, so it may lack what was added at the end."""
    theirs = official()
    data = json.loads((Path(schema.__file__).with_suffix(".json")).read_text())
    for enum in (*data["enums"], *data["unions"]):
        members = vars(getattr(theirs, enum, type))
        known = {k: v for k, v in members.items() if isinstance(v, int) and k.isidentifier()}
        assert {name: schema.numbers(enum).get(name) for name in known} == known, enum
    slots = 0
    for table in data["tables"]:
        fields = {field.name.replace("_", "").lower(): field for field in schema.fields(table)}
        places = {field.name: slot for slot, field in enumerate(schema.fields(table))}
        for name, stored, slot, default in added(theirs, table):
            field = fields[name.lower()]
            assert places[field.name] == int(slot), (table, name)
            assert KINDS[stored] == (field.of if field.shape == "scalar" else ""), (table, name)
            assert float(default) == float(field.default), (table, name)
            slots += 1
    assert slots > 300


KINDS = {
    "UOffsetTRelative": "",
    "Bool": "?",
    "Int8": "b",
    "Uint8": "B",
    "Int32": "i",
    "Uint32": "I",
    "Int64": "q",
    "Uint64": "Q",
    "Float32": "f",
}
ADDED = r"""def {}Add(\w+)\(builder, \w+\):
    builder.Prepend(\w+)Slot\((\d+), .*, (\S+)\)
"""


def added(theirs: ModuleType, table: str) -> list[tuple[str, str, str, str]]:
    """Fields of the generated code: name, how they are stored, slot and default."""
    source = Path(theirs.__file__ or "").read_text().replace("False", "0").replace("True", "1")
    found: list[tuple[str, str, str, str]] = re.findall(ADDED.format(table), source)
    return found


def test_the_schema_is_what_the_tool_makes_of_it() -> None:
    spec = spec_from_file_location("schema_tool", TOOL)
    assert spec is not None
    assert spec.loader is not None
    tool = module_from_spec(spec)
    spec.loader.exec_module(tool)
    text = """
    enum Kind : byte { A = 3, B, C = 9 (deprecated), } // a comment { with braces }
    union Any { First, Second (deprecated) }
    table First { size: int = -1; kind: Kind = B; flags: [bool]; of: Any; old: long (deprecated); }
    table Second (deprecated) { data: [ubyte] (force_align: 16); }
    """
    assert tool.parse(text) == {
        "types": {"Kind": "byte"},
        "enums": {"Kind": {"A": 3, "B": 4, "C": 9}},
        "unions": {"Any": ["First", "Second"]},
        "tables": {
            "First": ["size:int=-1", "kind:Kind=4", "flags:[bool]", "of:Any", "old:long"],
            "Second": ["data:[ubyte]@16"],
        },
    }


def test_fields_that_do_not_exist_are_refused() -> None:
    with pytest.raises(KeyError, match="Tensor has no field 'shapes', it has shape, type"):
        Table("Tensor", shapes=[1])
    with pytest.raises(KeyError):
        _ = Table("Tensor")["shapes"]
    with pytest.raises(KeyError):
        Table("Tensor", type="FLOAT31")


def test_absent_fields_have_the_defaults_of_the_schema() -> None:
    assert Table("Conv2DOptions")["dilation_h_factor"] == 1
    assert Table("FullyConnectedOptions")["keep_num_dims"] is False
    tensor = Table("Tensor", shape=[2, 3])
    assert (tensor["name"], tensor["quantization"], tensor["variant_tensors"]) == (b"", None, ())
    assert tensor["shape_signature"].size == 0
    assert "name" not in tensor


# --------------------------------------------------------------------------------- round trips


@needs_litert
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_official_readers_find_everything_in_what_is_written(file: Path) -> None:
    data = file.read_bytes()
    again = written(read(data))
    objects = [official().ModelT.InitFromPackedBuf(bytearray(x), 0) for x in (data, again)]
    assert plain(objects[0]) == plain(objects[1])
    assert written(read(again)) == again


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_does_not_grow_by_being_rewritten(file: Path) -> None:
    assert len(written(read(file.read_bytes()))) <= 1.01 * file.stat().st_size


def tables(value: Any) -> Any:
    """A Table as plain values."""
    if isinstance(value, Table):
        return value.kind, {k: tables(v) for k, v in value.fields.items()}, value.unknown
    if isinstance(value, list):
        return [tables(each) for each in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


@st.composite
def values(draw: st.DrawFn, field: schema.Field) -> Any:
    if field.shape == "string":
        return draw(st.binary(max_size=300))
    if field.shape == "vector":
        dtype = np.dtype(schema.DTYPES[field.of])
        raw = draw(st.binary(max_size=300))
        whole = raw[: len(raw) // dtype.itemsize * dtype.itemsize]
        return np.frombuffer(whole, dtype) if dtype.kind != "b" else np.zeros(len(whole), bool)
    if field.of == "f":
        return draw(st.floats(width=32, allow_nan=False))
    if field.of == "?":
        return draw(st.booleans())
    bits = 8 * field.size
    low, high = (
        (0, 2**bits - 1) if field.of.isupper() else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    )
    return draw(st.integers(low, high))


@st.composite
def any_table(draw: st.DrawFn, kind: str) -> Table:
    table = Table(kind)
    for field in schema.fields(kind):
        unions = {each.name for each in schema.fields(kind) if each.shape == "union"}
        outside = field.name in {"offset", "size"} or field.name.startswith("large_custom")
        if field.name.removesuffix("_type") in unions and field.shape == "scalar":
            continue
        if outside or draw(st.booleans()):
            continue
        if field.shape == "table":
            table[field.name] = draw(any_table(field.of))
        elif field.shape == "tables":
            table[field.name] = draw(st.lists(any_table(field.of), max_size=2))
        elif field.shape == "union":
            members = [name for name in schema.numbers(field.of) if name != "NONE"]
            table[field.name] = draw(any_table(draw(st.sampled_from(members))))
        else:
            table[field.name] = draw(values(field))
    return table


EVERY_CHECK: list[Any] = list(HealthCheck)


@given(any_table("Model"))
@settings(suppress_health_check=EVERY_CHECK)
def test_any_tables_come_back_as_they_were_written(root: Table) -> None:
    again = read(written(Flatbuffer(root)))
    assert tables(again.root) == tables(root)
    assert (again.stranger, bytes(again.tail)) == ("", b"")


# ------------------------------------------------------------------------------ what is outside


def outside(data: bytes) -> Flatbuffer:
    """The same model with its buffers behind the flatbuffer, the last one first."""
    flatbuffer = read(data)
    buffers = [buffer for buffer in flatbuffer.root["buffers"] if buffer["data"].size]
    for i, buffer in enumerate(buffers):
        buffer["offset"], buffer["size"] = 2 + len(buffers) - i, 0
    return flatbuffer


def test_buffers_behind_the_flatbuffer_are_read_and_stay_in_their_order(tmp_path: Path) -> None:
    inside = tmp_path / "inside.tflite"
    inside.write_bytes(small())
    path = tmp_path / "model.tflite"
    replace_file(path, pieces(outside(small())))
    model, same = Model(path), Model(inside)
    assert [t.name for t in model.graph.tensors] == [t.name for t in same.graph.tensors]
    assert model.weights(1).tobytes() == same.weights(1).tobytes()
    starts = [model.span(i)[0] for i in range(len(model._buffers)) if model.span(i)[1]]
    assert starts == sorted(starts, reverse=True)
    assert all(start % 16 == 0 for start in starts)
    once_more = read(path.read_bytes())
    assert all(b["offset"] > 1 for b in once_more.root["buffers"] if b["data"].size)
    assert written(once_more) == path.read_bytes()
    once_more.root["buffers"][1]["data"] = np.arange(9, dtype=np.uint8)
    changed = read(written(once_more)).root["buffers"][1]
    assert changed["data"].tolist() == list(range(9))
    assert (changed["size"], changed["offset"] % 16) == (9, 0)


@needs_litert
def test_litert_reads_buffers_behind_the_flatbuffer(tmp_path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    outputs = []
    for name, content in (("inside", [small()]), ("outside", pieces(outside(small())))):
        path = tmp_path / f"{name}.tflite"
        replace_file(path, content)
        interpreter = Interpreter(str(path))
        interpreter.allocate_tensors()
        x = np.arange(8, dtype=np.float32)[None]
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    assert outputs[0].tolist() == outputs[1].tolist() == [list(range(8))]


def test_options_of_a_custom_operator_may_lie_behind_the_flatbuffer() -> None:
    flatbuffer = read(small())
    operator = flatbuffer.root["subgraphs"][0]["operators"][0]
    operator["custom_options"] = np.frombuffer(b"options", np.uint8)
    operator["large_custom_options_offset"], operator["large_custom_options_size"] = 2, 0
    data = written(flatbuffer)
    again = read(data).root["subgraphs"][0]["operators"][0]
    start = again["large_custom_options_offset"]
    assert data[start : start + again["large_custom_options_size"]] == b"options"
    assert bytes(again["custom_options"]) == b"options"


def test_a_flatbuffer_that_becomes_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_sparsity.model.serializer.LARGEST", 700)
    with pytest.raises(ModelError, match=r"would hold \d+ bytes, a flatbuffer 700 at most"):
        written(read(small()))


# ------------------------------------------------------------------------------------- the tail


def labelled(data: bytes, prefix: bytes = b"") -> bytes:
    """The model with an archive behind it, as Python's zipfile appends one."""
    file = io.BytesIO(data + prefix)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("labels.txt", "cat\ndog\n", zipfile.ZIP_DEFLATED)
        archive.writestr("vocabulary.txt", "a" * 1000)
        archive.comment = b"a comment"
    return file.getvalue()


@pytest.mark.parametrize("more", [0, 4096])
def test_an_appended_archive_can_be_opened_at_its_new_place(more: int) -> None:
    flatbuffer = read(labelled(small()))
    buffer = flatbuffer.root["buffers"][1]
    buffer["data"] = np.zeros(more + 1, np.uint8)
    data = written(flatbuffer)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.read("labels.txt") == b"cat\ndog\n"
        assert archive.read("vocabulary.txt") == b"a" * 1000
        assert archive.testzip() is None
        start = data.index(b"PK\3\4")
        assert archive.infolist()[0].header_offset == start
        (directory,) = struct.unpack_from("<I", data, data.rindex(b"PK\5\6") + 16)
        assert data[directory : directory + 4] == b"PK\1\2"
    assert written(read(data)) == data


def test_an_archive_that_counts_from_its_own_start_is_left_as_it_is() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("labels.txt", "cat")
    flatbuffer = read(small() + file.getvalue())
    flatbuffer.root["description"] = b"x" * 1000
    data = written(flatbuffer)
    assert data.endswith(file.getvalue())
    assert zipfile.ZipFile(io.BytesIO(data)).read("labels.txt") == b"cat"


def test_any_other_tail_stays() -> None:
    assert written(read(small() + b"\0" * 7)) == written(read(small()))
    assert written(read(small() + b"signed by nobody")).endswith(b"signed by nobody")


# ----------------------------------------------------------------------------- unknown to us


def newer(monkeypatch: pytest.MonkeyPatch, content: bytes, table: str, *gone: str) -> Flatbuffer:
    """A file as a reader sees it whose schema lacks the last fields of a table."""
    every = schema.fields(table)
    kept = tuple(field for field in every if field.name not in gone)
    assert kept == every[: len(kept)]
    real = schema.fields
    monkeypatch.setattr(schema, "fields", lambda kind: kept if kind == table else real(kind))
    return read(content)


def test_numbers_of_a_newer_schema_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    flatbuffer = read(small())
    flatbuffer.root["subgraphs"][0]["debug_metadata_index"] = 77
    data = written(flatbuffer)
    with monkeypatch.context() as patch:
        seen = newer(patch, data, "SubGraph", "debug_metadata_index")
        assert "debug_metadata_index" not in seen.root["subgraphs"][0]
        again = written(seen)
    assert read(again).root["subgraphs"][0]["debug_metadata_index"] == 77


def test_tables_of_a_newer_schema_are_not_lost_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    flatbuffer = read(small())
    flatbuffer.root["external_buffers"] = [Table("ExternalBuffer", id=1, packing=b"unpacked")]
    data = written(flatbuffer)
    with monkeypatch.context() as patch:
        seen = newer(patch, data, "Model", "external_buffers")
        assert seen.root["subgraphs"]
        with pytest.raises(ModelError, match="has a field 9 in a table Model, which this version"):
            written(seen)


def test_options_of_an_unknown_kind_are_not_lost_in_silence() -> None:
    flatbuffer = read(small())
    operator = flatbuffer.root["subgraphs"][0]["operators"][0]
    operator["builtin_options"] = Table("SoftmaxOptions", beta=2.0)
    operator.fields["builtin_options_type"] = 200
    seen = read(written(flatbuffer))
    assert "builtin_options" not in seen.root["subgraphs"][0]["operators"][0]
    with pytest.raises(ModelError, match="has a BuiltinOptions of kind 200, which this version"):
        written(seen)
