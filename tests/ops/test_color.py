from __future__ import annotations

import torch

from megaportraits.ops.color import KEY_COLORS, random_colors


def test_key_colours_come_up_as_often_as_asked() -> None:
    colors = random_colors(4000, torch.Generator().manual_seed(0), torch.device("cpu"), keys=0.5)
    assert colors.shape == (4000, 3, 1, 1)
    colors = colors[..., 0, 0]
    near = (colors[:, None] - torch.tensor(KEY_COLORS)).abs().amax(-1).amin(-1) <= 0.1 + 1e-6
    # Uniform colours fall into the two boxes of side 0.2 with probability 2 * 0.2^3.
    assert abs(float(near.float().mean()) - (0.5 + 0.5 * 0.016)) < 0.03
    assert colors.min() >= 0 and colors.max() <= 1
