from __future__ import annotations

import torch

from megaportraits.ops.thin_plate import ThinPlateSpline, fit_thin_plate


def test_a_spline_passes_through_its_control_points_and_reproduces_planes() -> None:
    generator = torch.Generator().manual_seed(0)
    points, values = torch.rand(2, 12, 2, generator=generator), torch.rand(2, 12, 3, generator=generator)
    torch.testing.assert_close(fit_thin_plate(points, values)(points), values, atol=2e-4, rtol=0)
    slope = torch.tensor([[1.0, -2.0], [0.5, 3.0]])
    elsewhere = torch.rand(5, 2, generator=generator) * 4 - 2
    got = fit_thin_plate(points[:1], points[:1] @ slope + 0.3)(elsewhere)
    torch.testing.assert_close(got[0], elsewhere @ slope + 0.3, atol=2e-4, rtol=0)


def test_the_derivatives_of_a_spline_are_those_of_automatic_differentiation() -> None:
    generator = torch.Generator().manual_seed(1)
    points, weights = torch.rand(1, 9, 2, generator=generator), torch.rand(1, 9, 2, generator=generator)
    spline = ThinPlateSpline(points, weights, torch.rand(1, 3, 2, generator=generator))  # weights that do not cancel
    queries = torch.rand(6, 2, generator=generator) * 2 - 0.5
    wanted = torch.stack([torch.autograd.functional.jacobian(lambda q: spline(q[None])[0, 0], q) for q in queries])
    torch.testing.assert_close(spline.jacobian(queries)[0], wanted, atol=1e-4, rtol=1e-4)
    assert spline.jacobian(points[0]).isfinite().all()  # the logarithm at a control point
