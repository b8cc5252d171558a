"""Sources with transparency: the file's own alpha is used as the matte."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from PIL import Image

from megaportraits.faces.detector import FaceAnalyzer
from megaportraits.faces.matting import Matting
from megaportraits.media import write_image
from megaportraits.models.base import BaseModel
from megaportraits.models.identity import Identity, Output
from megaportraits.models.motion import Motion
from megaportraits.models.source_skip import Flow, SourceView
from megaportraits.pipeline import AnimateOptions, Avatar, Background, PoseFrom
from megaportraits.pipeline.portrait import below_edge, cut_at_border, find_source_head, person_matte, source_view
from megaportraits.pipeline.tensors import flows

from .conftest import SIZE, Echo, moved

EDGE = 172
"""Row of the astronaut's photograph at which the bust is cut off: below the chin, within the head crop."""


class Copying(Echo):
    """An `Echo` that says it copies its source from `shift` further down, grid units."""

    def __init__(self, shift: float) -> None:
        super().__init__()
        self.shift = shift

    def render(self, identity: Identity, motion: Motion) -> Output:
        output = super().render(identity, motion)
        flow = torch.zeros_like(output.image[:, :2])
        flow[:, 1] = self.shift
        nothing = torch.zeros_like(output.image[:, :1])
        view = SourceView(output.image, Flow(flow), nothing[:, 0], nothing, output.image)
        return Output(output.image, torch.ones_like(nothing), output.displacement, view)


def bust(portrait: np.ndarray, *, tight: bool) -> np.ndarray:
    """The astronaut's head as a cut-out, RGBA, that ends at `EDGE`; `tight`: so does the picture."""
    y, x = np.mgrid[:512, :512]
    alpha = (((x - 226) / 75) ** 2 + ((y - 120) / 105) ** 2 < 1) & (y < EDGE)
    cut = np.dstack([portrait, alpha.astype(np.uint8) * 255])
    return cut[:EDGE] if tight else cut


@pytest.fixture(params=[True, False], ids=["picture ends there, too", "transparent from there on"])
def source(request: pytest.FixtureRequest, portrait: np.ndarray, tmp_path: Path) -> Path:
    return write_image(tmp_path / "bust.png", bust(portrait, tight=request.param))


def test_a_cut_out_persons_outline_is_the_files(analyzer: FaceAnalyzer, source: Path) -> None:
    head = find_source_head(source, analyzer)
    size = round(head.crop.side)
    matte = person_matte(head, head.crop, size, Matting())
    left, top, _, _ = head.crop.corners
    y, x = np.mgrid[:size, :size] + 0.5
    x, y = x + left, y + top
    inside = ((x - 226.5) / 75) ** 2 + ((y - 120.5) / 105) ** 2
    assert matte[(inside < 0.94) & (y < EDGE - 2)].min() > 0.95
    assert matte[(inside > 1.06) | (y > EDGE + 2)].max() < 0.05
    assert source_view(head, head.crop, size)[y > EDGE + 2].min() > 250  # no repeated border


@pytest.mark.parametrize("shift", [0.0, 0.125])
def test_nothing_is_shown_below_a_cut_out_persons_edge_wherever_it_moves(
    analyzer: FaceAnalyzer, source: Path, portrait: np.ndarray, shift: float
) -> None:
    avatar = Avatar(cast(BaseModel, Copying(-shift)), analyzer=analyzer, pose_from=PoseFrom.NETWORK)
    encoded = avatar.encode(source)
    options = AnimateOptions(background=Background.TRANSPARENT, size=SIZE)
    (frame,) = avatar.animate(encoded, moved(portrait, 0), options)
    crop = encoded.head.crop
    edge = (float(crop.image_to_crop([0, EDGE])[1]) + shift + 1) * SIZE / 2
    alpha = frame.image[:, SIZE // 2 - 8 : SIZE // 2 + 8, 3]
    assert alpha[: int(edge) - 3].min() == 255
    assert alpha[int(edge) + 4 :].max() < 3


@pytest.mark.parametrize("background", [Background.TRANSPARENT, Background.COLOR])
def test_a_tightly_framed_photo_is_not_continued_below_its_border(
    analyzer: FaceAnalyzer, portrait: np.ndarray, background: Background
) -> None:
    avatar = Avatar(cast(BaseModel, Copying(-0.125)), analyzer=analyzer, pose_from=PoseFrom.NETWORK)
    encoded = avatar.encode(portrait[:EDGE])
    (frame,) = avatar.animate(encoded, moved(portrait, 0), AnimateOptions(background=background, size=SIZE))
    border = int((float(encoded.head.crop.image_to_crop([0, EDGE])[1]) + 0.125 + 1) * SIZE / 2)
    if background is Background.COLOR:
        below = frame.image[border + 4 :].reshape(-1, 3)
        assert len(below) and np.abs(below.astype(int) - AnimateOptions().color).max() < 4
    else:
        assert frame.image[: border - 3, :, 3].min() == 255
        assert frame.image[border + 4 :, :, 3].max() < 3


def test_photos_that_reach_below_the_crop_and_photos_that_heads_go_back_into_are_not_cut(
    analyzer: FaceAnalyzer, portrait: np.ndarray
) -> None:
    avatar = Avatar(cast(BaseModel, Copying(-0.125)), analyzer=analyzer, pose_from=PoseFrom.NETWORK)
    whole = avatar.encode(portrait)
    assert cut_at_border(whole) is whole
    tight = avatar.encode(portrait[:EDGE])
    assert tight.kept is None
    drawn = avatar.render(tight, tight.motion).premultiplied[..., 3]
    assert drawn.min() > 0.99


def test_round_corners_do_not_make_the_background_a_person(analyzer: FaceAnalyzer, portrait: np.ndarray) -> None:
    y, x = np.mgrid[:512, :512]
    alpha = (np.hypot(x - 240, y - 180) < 160).astype(np.uint8) * 255
    rounded = find_source_head(Image.fromarray(np.dstack([portrait, alpha])), analyzer)
    plain = find_source_head(portrait, analyzer)
    mattes = [person_matte(head, plain.crop, 128, Matting()) for head in (rounded, plain)]
    assert (mattes[0] > 0.5).mean() < 1.1 * (mattes[1] > 0.5).mean()


def test_the_lower_edge_goes_on_beside_the_person() -> None:
    matte = np.zeros((8, 8), np.float32)
    matte[2:5, 2:6] = 1
    edge = below_edge(matte)
    assert edge[5:].min() == 1
    assert edge[:5].max() == 0
    assert below_edge(np.zeros((4, 4), np.float32)).max() == 0


def test_flow_is_in_crop_units() -> None:
    image, alpha = torch.zeros(1, 3, 64, 64), torch.zeros(1, 1, 64, 64)
    alpha[..., :32] = 1
    pixels = torch.zeros(1, 2, 64, 64)
    pixels[:, 0], pixels[:, 1] = 6, -3
    flow = Flow(pixels * 2 / 63)
    view = SourceView(image, flow, image[:, 0], alpha, image)
    (told,) = flows(Output(image, alpha, torch.zeros(1), view))
    assert told is not None and told.shape == (32, 32, 3)
    np.testing.assert_allclose(told[:, :16], np.broadcast_to([6 / 32, -3 / 32, 1], (32, 16, 3)), atol=1e-6)
    assert told[:, 16:, 2].max() == 0
    assert flows(Output(image, alpha, torch.zeros(1))) == [None]
