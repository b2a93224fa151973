"""The telling line of what native code printed."""

from __future__ import annotations

import pytest

from pytest_sparsity.variants.last_words import telling_line, without_chatter

CUDA = "E0000 00:00:1795600141.740655 16021 cuda_platform.cc:52] failed call to cuInit: (303)"
PRINTED = {
    "nothing": ("", ""),
    "chatter": (f"WARNING: All log messages before absl\n{CUDA}\n", ""),
    "a warning of Python": (
        "<frozen runpy>:128: RuntimeWarning: 'a.b' found in sys.modules\n  warnings.warn(\n",
        "",
    ),
    "the last line": ("first\nsegment lost\n\n", "segment lost"),
    "LLVM above its stack": (
        "LLVM ERROR: out of memory\nPLEASE submit a bug report\n #0 0x00007f llvm::sys\n",
        "LLVM ERROR: out of memory",
    ),
    "a check above its stack": (
        (
            f"{CUDA}\nF0000 00:00:1.5 7 shape.cc:57] Check failed: n == 4 (3 vs. 4)\n"
            "*** Check failure stack trace: ***\n    @     0x7f1 absl::Fail\n"
        ),
        "F0000 00:00:1.5 7 shape.cc:57] Check failed: n == 4 (3 vs. 4)",
    ),
    "C++'s exception": (
        "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad\n",
        "terminate called after throwing an instance of 'std::bad_alloc'",
    ),
    "MLIR between Python's lines": (
        (
            "Could not translate MLIR. UNKNOWN: <unknown>:0: error: loc(callsite(fused"
            "[\"Svd:\"])): 'tf.Svd' op is neither a custom op nor a flex op\n<unknown>:0: note: x\n"
        ),
        "'tf.Svd' op is neither a custom op nor a flex op",
    ),
    "Python's faulthandler": (
        (
            "Fatal Python error: Segmentation fault\n\nCurrent thread 0x7 (most recent first):\n"
            '  File "a.py", line 3 in b\n\nExtension modules: numpy.core (total: 1)\n'
        ),
        "Fatal Python error: Segmentation fault",
    ),
}


@pytest.mark.parametrize("name", PRINTED)
def test_the_line_that_says_what_went_wrong(name: str) -> None:
    printed, telling = PRINTED[name]
    assert telling_line(printed) == telling


def test_chatter_is_left_out() -> None:
    assert without_chatter(f"mine\n{CUDA}\nI think\n") == "mine\nI think\n"
