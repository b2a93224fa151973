"""Reference networks: functions that return a `tf_keras` model, ready for `build_variants`.

All have a fixed batch of one, the batch for which latency is claimed. They end in logits rather
than in a softmax, whose outputs would all be close to one over the number of classes.

The weights are random but not degenerate: drawn from numpy's PCG64 and scaled so that every
activation, and the output, is of order one for inputs drawn uniformly from [0, 1). (Keras'
MobileNetV1 with its own initialisers gives 1e-25, and any comparison of such outputs is vacuous.)
The scaling is computed, not measured, so the same weights come out in any process. (Where it is
measured, the network's function says so.)

`tf_keras` is imported inside the functions; `pip install 'pytest-sparsity[build]'` brings it.
"""

from __future__ import annotations

from pytest_sparsity.zoo.inception import inception_v3
from pytest_sparsity.zoo.mobilenets import ds_cnn, mobilenet_v1, mobilenet_v2
from pytest_sparsity.zoo.recurrent import translator
from pytest_sparsity.zoo.resnets import resnet18
from pytest_sparsity.zoo.small import mlp, mnist_cnn, traffic_signs, xnnpack_cnn
from pytest_sparsity.zoo.weights import scale_weights

__all__ = [
    "ds_cnn",
    "inception_v3",
    "mlp",
    "mnist_cnn",
    "mobilenet_v1",
    "mobilenet_v2",
    "resnet18",
    "scale_weights",
    "traffic_signs",
    "translator",
    "xnnpack_cnn",
]
