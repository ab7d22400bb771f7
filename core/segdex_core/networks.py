"""A small network on numpy arrays: what the rankers of masks and the label head are."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class HiddenLayerNetwork:
    """A network with one hidden layer of h units on f features, for one output or for m.

    Attributes:
        centre: (f,) mean of each feature.
        scale: (f,) factor to a spread of about 1.
        hidden_weight: (f, h)
        hidden_bias: (h,)
        weight: (h,) for one output, (h, m) for m.
        bias: (1,) or (m,)
    """

    centre: Floats
    scale: Floats
    hidden_weight: Floats
    hidden_bias: Floats
    weight: Floats
    bias: Floats

    def probabilities(self, features: Floats) -> Floats:
        """Return (n,) or (n, m) values in 0 to 1 for (n, f) features, each output by itself."""
        hidden = np.maximum((features - self.centre) * self.scale @ self.hidden_weight + self.hidden_bias, 0)
        logits = (hidden @ self.weight + self.bias).clip(-30, 30)
        probabilities: Floats = (1 / (1 + np.exp(-logits))).astype(np.float32)
        return probabilities


NETWORK_ARRAYS = tuple(HiddenLayerNetwork.__dataclass_fields__)
