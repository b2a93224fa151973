"""Small networks: of tutorials, and a perceptron."""

from __future__ import annotations

from pytest_sparsity.zoo.weights import KerasModel, scale_weights


def xnnpack_cnn(*, keepdims: bool = False, seed: int = 0) -> KerasModel:
    """Build the CIFAR-10 shaped network of TensorFlow's tutorial on pruning for XNNPACK.

    Source: "Pruning for on-device inference w/ XNNPACK", tensorflow/model-optimization,
    g3doc/guide/pruning/pruning_for_on_device_inference.ipynb.

    Args:
        keepdims: of the global average pooling. The tutorial says that the policy requires it;
            TFMOT 0.7.0 and later accept both.
        seed: of the weights.

    Returns:
        A Sequential model from float32 [1, 32, 32, 3] to ten logits.
    """
    import tf_keras as keras

    layers = keras.layers
    model = keras.Sequential(
        [
            layers.InputLayer(input_shape=(32, 32, 3), batch_size=1),
            layers.ZeroPadding2D(padding=1),
            layers.Conv2D(filters=8, kernel_size=3, strides=2, padding="valid"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.DepthwiseConv2D(kernel_size=3, padding="same"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Conv2D(filters=16, kernel_size=1),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.ZeroPadding2D(padding=1),
            layers.DepthwiseConv2D(kernel_size=3, strides=2, padding="valid"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Conv2D(filters=32, kernel_size=1),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.GlobalAveragePooling2D(keepdims=keepdims),
            layers.Flatten(),
            layers.Dense(10),
        ],
        name="xnnpack_cnn",
    )
    return scale_weights(model, seed)


def mlp(*, seed: int = 0) -> KerasModel:
    """Build a perceptron of 768, 1024, 1024 and 10 units with ReLU between them.

    Its dense layers are large enough to be bound by the reading of weights, which is where blocks
    of zeros pay: at 99 % the converter stores them in 1x4 blocks, for which TFLite has a kernel of
    its own on every CPU.

    Returns:
        A Sequential model from float32 [1, 768] to ten logits.
    """
    import tf_keras as keras

    layers = keras.layers
    model = keras.Sequential(
        [
            layers.InputLayer(input_shape=(768,), batch_size=1),
            layers.Dense(1024, activation="relu"),
            layers.Dense(1024, activation="relu"),
            layers.Dense(10),
        ],
        name="mlp",
    )
    return scale_weights(model, seed)


def traffic_signs(*, classes: int = 43, seed: int = 0) -> KerasModel:
    """Build a network for the 43 German traffic signs (GTSRB), 242,251 weights.

    Four regular convolutions with pooling between them and two dense layers, as in many tutorials
    on that data set. Nearly all of its time goes to the convolutions, nearly all of its weights are
    in the dense layers.

    Returns:
        A Sequential model from float32 [1, 30, 30, 3] to `classes` logits.
    """
    import tf_keras as keras

    layers = keras.layers
    model = keras.Sequential(
        [
            layers.InputLayer(input_shape=(30, 30, 3), batch_size=1),
            layers.Conv2D(32, 5, activation="relu"),
            layers.Conv2D(32, 5, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Dropout(0.25),
            layers.Conv2D(64, 3, activation="relu"),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Dropout(0.25),
            layers.Flatten(),
            layers.Dense(256, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(classes),
        ],
        name="traffic_signs",
    )
    return scale_weights(model, seed)


def mnist_cnn(*, seed: int = 0) -> KerasModel:
    """Build the network of many first texts on pruning: a convolution and a dense layer.

    Returns:
        A Sequential model from float32 [1, 28, 28, 1] to ten logits.
    """
    import tf_keras as keras

    layers = keras.layers
    model = keras.Sequential(
        [
            layers.InputLayer(input_shape=(28, 28, 1), batch_size=1),
            layers.Conv2D(32, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(10),
        ],
        name="mnist_cnn",
    )
    return scale_weights(model, seed)
