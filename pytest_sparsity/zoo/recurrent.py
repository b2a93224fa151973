"""A recurrent network, as translators had them before attention."""

from __future__ import annotations

from pytest_sparsity.zoo.weights import KerasModel, scale_weights


def translator(
    *, words: int = 4000, units: int = 256, length: int = 16, seed: int = 0
) -> KerasModel:
    """Build two LSTMs between an embedding and the logits of the next word.

    That is a much smaller relative of GNMT, https://arxiv.org/abs/1609.08144, which TFMOT's pruning
    guide has a row for.

    Args:
        words: in the vocabulary.
        units: of every layer but the last.
        length: of a sentence in words.
        seed: of the weights.

    Returns:
        A Sequential model from float32 [1, length], the numbers of words, to `words` logits.
    """
    import tf_keras as keras

    layers = keras.layers
    model = keras.Sequential(
        [
            layers.InputLayer((length,), batch_size=1),
            layers.Embedding(words, units),
            layers.LSTM(units, return_sequences=True),
            layers.LSTM(units),
            layers.Dense(words),
        ],
        name="translator",
    )
    return scale_weights(model, seed)
