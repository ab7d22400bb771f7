"""A small neural network on numpy arrays, used for mask rankers and the label head."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class HiddenLayerNetwork:
    """A network with f input features, one hidden layer of h units, and one or m outputs.

    Attributes:
        centre: (f,) mean of each input feature.
        scale: (f,) factor that scales each feature to a spread of about 1.
        hidden_weight: (f, h) weights of the hidden layer.
        hidden_bias: (h,) biases of the hidden layer.
        weight: (h,) weights of one output, or (h, m) weights of m outputs.
        bias: (1,) or (m,) biases of the outputs.
    """

    centre: Floats
    scale: Floats
    hidden_weight: Floats
    hidden_bias: Floats
    weight: Floats
    bias: Floats

    def probabilities(self, features: Floats) -> Floats:
        """Return (n,) or (n, m) independent probabilities, 0 to 1, for (n, f) features."""
        hidden = np.maximum((features - self.centre) * self.scale @ self.hidden_weight + self.hidden_bias, 0)
        logits = (hidden @ self.weight + self.bias).clip(-30, 30)
        probabilities: Floats = (1 / (1 + np.exp(-logits))).astype(np.float32)
        return probabilities


NETWORK_ARRAYS = tuple(HiddenLayerNetwork.__dataclass_fields__)
