"""Disocclusions: wide ones are filled, and all other pixels are unchanged."""

from __future__ import annotations

from dataclasses import replace

import torch

from megaportraits.models.disocclusion import fill_disocclusions
from megaportraits.models.identity import Output
from megaportraits.models.source_skip import Flow, SourceView


def turned(seen_beside: float) -> tuple[Output, torch.Tensor]:
    """Red everywhere, but the flow of columns 20 to 29 of 64 ends beside the source's person, and green is painted."""
    red, green = torch.tensor([0.8, 0.1, 0.1]), torch.tensor([0.1, 0.9, 0.1])
    image = red[:, None, None].repeat(1, 1, 64, 64)
    image[..., 20:30] = green[:, None, None]
    flow, copied = torch.zeros(1, 2, 64, 64), torch.full((1, 1, 64, 64), 0.5)
    flow[:, 0, :, 20:30] = seen_beside
    source = torch.ones(1, 4, 128, 128)
    source[:, 3, :, 120:] = 0
    view = SourceView(image, Flow(flow), torch.zeros(1, 4, 4), copied, image)
    return Output(image, torch.ones(1, 1, 64, 64), torch.zeros(1), view), source


def test_hidden_parts_take_the_colours_around_them_and_copy_nothing() -> None:
    output, source = turned(seen_beside=2.0)
    filled = fill_disocclusions(output, source)
    assert filled.view is not None and filled.alpha is output.alpha
    torch.testing.assert_close(filled.image, output.image[..., :1, :1].expand(-1, -1, 64, 64), atol=1e-5, rtol=0)
    assert not filled.view.copied[..., 20:30].any() and (filled.view.copied[..., 4:18] == 0.5).all()


def test_a_person_who_hides_nothing_is_left_as_painted() -> None:
    output, source = turned(seen_beside=0.0)
    source[:, 3] = 1
    filled = fill_disocclusions(output, source)
    assert filled.view is not None and output.view is not None
    assert torch.equal(filled.image, output.image) and torch.equal(filled.view.copied, output.view.copied)


def test_outside_the_person_nothing_is_filled() -> None:
    output, source = turned(seen_beside=2.0)
    output = replace(output, alpha=torch.zeros(1, 1, 64, 64))
    assert torch.equal(fill_disocclusions(output, source).image, output.image)


def test_a_narrow_stripe_is_an_outline_and_stays() -> None:
    output, source = turned(seen_beside=2.0)
    assert output.view is not None
    flow = torch.zeros_like(output.view.flow.direct)
    flow[..., 24:25] = output.view.flow.direct[..., 24:25]
    stripe = replace(output, view=replace(output.view, flow=Flow(flow)))
    assert torch.equal(fill_disocclusions(stripe, source).image[..., :20], output.image[..., :20])
    wide, narrow = (fill_disocclusions(o, source).image[0, 1, :, 24].mean() for o in (output, stripe))
    assert wide < 0.15 < narrow
