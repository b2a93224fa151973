"""The CPUs that are emulated: one record each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Core:
    """An emulated CPU.

    Attributes:
        name: the part of the target's name after the `@`.
        arch: its architecture in Linux' spelling.
        model: QEMU's name of it.
        cpuinfo: what the guest reads as /proc/cpuinfo. QEMU 7.2 would show it the host's;
            on that of an x86 CPU the ARM builds of LiteRT 2.3 crash when they create an
            interpreter. XNNPACK chooses its kernels by implementer and part, so these lines are a
            part of the CPU's model.
        environment: variables that the guest needs.
        usual: it is listed, and tried where no target is named; the others are to be named.
    """

    name: str
    arch: str
    model: str
    cpuinfo: str
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)
    usual: bool = True

    @property
    def features(self) -> frozenset[str]:
        """The CPU's features in Linux' spelling."""
        lines = (line.partition(":") for line in self.cpuinfo.splitlines())
        words = [text for name, _, text in lines if name.strip() in ("Features", "flags")]
        return frozenset(words[0].split())


def _arm(
    name: str, part: str, variant: str, features: str, model: str = "", *, usual: bool = True
) -> Core:
    """Return one of Arm's own cores; part and variant are those of its main ID register.

    The emulator's model is that of its name, unless it is given.
    """
    cpuinfo = (
        "processor\t: 0\n"
        f"model name\t: {name} emulated by QEMU\n"
        "BogoMIPS\t: 100.00\n"
        f"Features\t: {features}\n"
        "CPU implementer\t: 0x41\n"
        "CPU architecture: 8\n"
        f"CPU variant\t: {variant}\n"
        f"CPU part\t: {part}\n"
        "CPU revision\t: 1\n\n"
    )
    return Core(name, "aarch64", model or name, cpuinfo, usual=usual)


_NEHALEM = Core(
    "nehalem",
    "x86_64",
    "Nehalem",
    # Name, family, model and flags of QEMU's model: SSE4.2 and no AVX.
    "processor\t: 0\n"
    "vendor_id\t: GenuineIntel\n"
    "cpu family\t: 6\n"
    "model\t\t: 26\n"
    "model name\t: nehalem emulated by QEMU\n"
    "stepping\t: 3\n"
    "flags\t\t: fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx"
    " fxsr sse sse2 syscall nx lm pni ssse3 cx16 sse4_1 sse4_2 popcnt lahf_lm\n\n",
    # numpy's OpenBLAS takes the emulated CPU for a newer one and dies of an illegal instruction.
    {"OPENBLAS_CORETYPE": "Nehalem"},
)
_ARMV8 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
_ARMV8_2 = f"{_ARMV8} atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp"
_SME = f"{_ARMV8_2} sve sme smef32f32"
CORES = (
    _arm("cortex-a53", "0xd03", "0x0", _ARMV8),
    _arm("cortex-a76", "0xd0b", "0x4", _ARMV8_2),
    _NEHALEM,
    _arm("neoverse-n1", "0xd0c", "0x4", _ARMV8_2, usual=False),
    # No core that QEMU 7.2 knows has SME: its `max`, named as a Cortex-A76 where XNNPACK asks who
    # it is. The vector length is 256 bits by default; in bytes here.
    _arm("sme", "0xd0b", "0x4", _SME, "max,sme=on", usual=False),
    _arm("sme512", "0xd0b", "0x4", _SME, "max,sme=on,sme-default-vector-length=64", usual=False),
)
