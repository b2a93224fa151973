"""The fingerprint: equal where the machine is the same, different where it is not."""

from __future__ import annotations

import platform
import re
import subprocess
import sys

import pytest

from pytest_sparsity.machine import Machine, key, parse_cpuinfo, this_machine

X86 = """\
processor	: {processor}
vendor_id	: AuthenticAMD
cpu family	: 25
model		: {model}
model name	: {brand}
stepping	: 1
cpu MHz		: {mhz}
bogomips	: {bogomips}
flags		: {flags}

"""
ARM = """\
processor	: {processor}
BogoMIPS	: 243.75
Features	: {features}
CPU implementer	: 0x41
CPU part	: {part}

"""


def x86(
    *,
    cores: int = 2,
    model: int = 1,
    brand: str = "AMD EPYC 7B13",
    mhz: float = 2450.0,
    bogomips: float = 4900.0,
    flags: str = "fpu sse2 sse4_1 avx avx2",
) -> Machine:
    text = "".join(
        X86.format(
            processor=number, model=model, brand=brand, mhz=mhz, bogomips=bogomips, flags=flags
        )
        for number in range(cores)
    )
    return parse_cpuinfo(text, "x86_64")


def arm(*cores: tuple[str, str]) -> Machine:
    text = "".join(
        ARM.format(processor=number, part=part, features=features)
        for number, (part, features) in enumerate(cores)
    )
    return parse_cpuinfo(text, "aarch64")


def test_what_is_read_from_cpuinfo() -> None:
    assert x86() == Machine(
        brand="AMD EPYC 7B13",
        isa="avx2",
        cores=2,
        arch="x86_64",
        features=frozenset({"fpu", "sse2", "sse4_1", "avx", "avx2"}),
        model="AuthenticAMD-25-1-1",
    )


@pytest.mark.parametrize(
    ("flags", "isa"),
    [
        ("sse2", "scalar"),
        ("sse2 sse4_1", "sse4"),
        ("sse4_1 avx", "avx"),
        ("avx avx2", "avx2"),
        ("avx avx2 avx512f", "avx512f"),
    ],
)
def test_the_widest_instruction_set_wins(flags: str, isa: str) -> None:
    assert x86(flags=flags).isa == isa


def test_arm_cores_are_named_by_their_parts() -> None:
    little, big = ("0xd03", "fp asimd"), ("0xd0b", "fp asimd asimdhp asimddp")
    assert arm(little, little).brand == "arm 0x41-0xd03"
    assert arm(big).isa == "neon-fp16"
    both = arm(little, little, big, big)
    assert both.brand == "arm 0x41-0xd03 0x41-0xd0b"
    assert both.isa == "neon", "code that runs on any core cannot use what the little ones lack"
    assert both.cores == 4
    assert both == arm(big, little, big, little), "the order in which cores come up says nothing"


def test_without_cpuinfo_the_platform_answers() -> None:
    machine = parse_cpuinfo("", platform.machine())
    assert machine.brand
    assert machine.cores >= 1
    assert machine.isa == "scalar"


def test_clock_and_load_do_not_change_the_key() -> None:
    quiet, busy = x86(mhz=2450.0, bogomips=4900.0), x86(mhz=3399.9, bogomips=4893.1)
    assert key(quiet, "litert", "2.3.0") == key(busy, "litert", "2.3.0")


def test_whatever_decides_the_speed_changes_the_key() -> None:
    keys = [
        key(x86(), "litert", "2.3.0"),
        key(x86(cores=4), "litert", "2.3.0"),
        key(x86(model=17), "litert", "2.3.0"),
        key(x86(brand="AMD EPYC 9B14"), "litert", "2.3.0"),
        key(x86(flags="sse4_1 avx avx2 avx512f"), "litert", "2.3.0"),
        key(x86(), "litert", "2.4.0"),
        key(x86(), "tflite-runtime", "2.3.0"),
        key(x86(), "litert-js", "2.3.0 on Node 24.1.0"),
        key(x86(), "litert-js", "2.3.0 on Node 24.2.0"),
    ]
    assert len(set(keys)) == len(keys)


def test_the_key_is_a_folder_name_that_people_can_read() -> None:
    assert re.fullmatch(
        r"amd-epyc-7b13-avx2-litert-2\.3\.0-[0-9a-f]{6}", key(x86(), "litert", "2.3.0")
    )
    odd = key(x86(brand="Intel(R) Xeon(R) CPU @ 2.20GHz / ../\u00e9"), "a b", "1:2")
    assert re.fullmatch(r"[a-z0-9.-]+", odd)
    assert not odd.startswith(".")


def test_this_machine_is_the_same_in_another_process() -> None:
    script = "from pytest_sparsity.machine import key, this_machine as m; print(key(m(), 'r', '1'))"
    other = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert other.stdout.strip() == key(this_machine(), "r", "1")
