"""Findings about the evidence, and about a file that is not what it is taken for."""

from __future__ import annotations

from pytest_sparsity.findings.kinds import Kind, Remedy

CONTRADICTIONS = (
    Kind(
        "rules-disagree",
        "the rules say {ruled}, but {seen}",
        Remedy("trust what was observed, and report the model: the rules are wrong", ""),
        """
The rules of XNNPACK, applied to the file, say one thing, and another was observed on the target: by
the outputs, or by the names of the kernels that ran. What was observed decides the verdict. Please
report the model: the rules are wrong.
""",
    ),
    Kind(
        "probe-disagrees",
        (
            "{target} should have {expected}, but a probe that qualifies for them {found} "
            "zeros there"
        ),
        Remedy("trust the probe, and report the target with `pytest-sparsity targets --json`", ""),
        """
A tiny model that qualifies for sparse kernels was run on the target, and it did, or did not, skip
zeros against what the runtime's version and the CPU's features say. Trust the probe, and report the
target.
""",
    ),
)

CONTENT = (
    Kind(
        "different-network",
        "{name} is not the network of {dense}: {difference}",
        Remedy("compare files that were converted from one network", "conversion"),
        """
The file and its dense counterpart have other layers or shapes, so that a comparison of the two says
nothing about sparsity. Compare files that were converted from one network.
""",
    ),
    Kind(
        "weights-changed",
        ("{count} of {parameters} weights of {layer_name} have other values than in {dense}"),
        Remedy("convert both files from one trained network", "conversion"),
        """
Weights have other values than in the counterpart with the same zeros. Convert both files from one
trained network.
""",
    ),
    Kind(
        "weights-lost",
        "{count} of {parameters} weights of {layer_name} are zero here and not in {dense}",
        Remedy(
            (
                "make the width a multiple of the block (4, int8: 16), or convert without "
                "EXPERIMENTAL_SPARSITY"
            ),
            "conversion",
        ),
        """
Weights that the counterpart has are zero here. Usually the converter dropped them, see
`dropped-columns`.
""",
    ),
)
