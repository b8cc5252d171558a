"""The loss with which the gaze network is trained (B.5)."""

from __future__ import annotations

from torch import Tensor


def mae_mse(predicted: Tensor, label: Tensor, *, w_mae: float = 15.0, w_mse: float = 10.0) -> Tensor:
    """`w_mae` * mean |error| + `w_mse` * mean error^2 over the known labels; NaN labels are ignored.

    Args:
        predicted: any shape.
        label: the same shape; NaN where unknown.
        w_mae: weight of the mean absolute error.
        w_mse: weight of the mean squared error.

    Returns:
        Scalar; 0 with gradient if no label is known.
    """
    known = ~label.isnan()
    error = (predicted.float() - label.nan_to_num()) * known
    return (w_mae * error.abs().sum() + w_mse * error.square().sum()) / known.sum().clamp_min(1)
