"""`Avatar` with a network of known output, on a real photograph."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import skimage.data
import torch

from megaportraits.config import ModelConfig
from megaportraits.errors import ConfigError, FaceError, ShapeError, WeightsError
from megaportraits.faces.detector import FaceAnalyzer
from megaportraits.models.base import BaseModel
from megaportraits.models.identity import Identity, Output
from megaportraits.models.motion import Motion
from megaportraits.ops.geometry import HeadPose, euler_to_matrix
from megaportraits.ops.warping import Pose
from megaportraits.pipeline import (
    AnimateOptions,
    Avatar,
    Background,
    MotionMode,
    MotionOptions,
    PoseFrom,
    RestExpression,
    ScaleFrom,
    TranslationFrom,
    parse_color,
)
from megaportraits.pipeline.compose import Placement, Rendering
from megaportraits.pipeline.tensors import head_pose

from .conftest import SIZE, Echo, moved


def driver(portrait: np.ndarray, count: int = 4) -> list[np.ndarray]:
    return [moved(portrait, 3.0 * i) for i in range(count)]


def test_the_source_is_encoded_once(avatar: Avatar, portrait: np.ndarray) -> None:
    frames = list(avatar.animate(portrait, driver(portrait)))
    network = cast(Echo, avatar.model)
    assert (network.encoded, network.rendered, len(frames)) == (1, 4, 4)


def test_result_and_driver_crop_are_pixel_aligned(avatar: Avatar, portrait: np.ndarray) -> None:
    options = AnimateOptions(size=SIZE, crop=True)
    for frame in avatar.animate(portrait, driver(portrait), options):
        assert frame.driver is not None
        assert np.array_equal(frame.image, frame.square)
        assert np.abs(frame.square.astype(int) - frame.driver).max() <= 1  # the echo is the driver's crop


def test_relative_motion_of_a_still_driver_is_the_source(avatar: Avatar, portrait: np.ndarray) -> None:
    options = AnimateOptions(motion=MotionMode.RELATIVE, size=SIZE, crop=True)
    encoded = avatar.encode(portrait)
    (frame,) = avatar.animate(encoded, moved(portrait, 0), options)
    own = avatar.render(encoded, encoded.motion).resized(SIZE)[..., :3] * 255
    assert np.abs(frame.square - own).mean() < 3  # the crop of the first look and of the follower agree


def test_a_sources_rest_keeps_its_expression_with_absolute_motion_too(avatar: Avatar, portrait: np.ndarray) -> None:
    options = AnimateOptions(rest_expression=RestExpression.SOURCE, size=SIZE, crop=True)
    encoded = avatar.encode(portrait)
    (frame,) = avatar.animate(encoded, moved(portrait, 0), options)
    own = avatar.render(encoded, encoded.motion).resized(SIZE)[..., :3] * 255
    assert np.abs(frame.square - own).mean() < 3


def test_one_driven_crop_obeys_the_options(avatar: Avatar, portrait: np.ndarray) -> None:
    encoded = avatar.encode(portrait)
    own = avatar.render(encoded, encoded.motion)
    options = MotionOptions(frontal=True, yaw=20, expression_strength=0)
    rendering = avatar.drive(encoded, moved(portrait, 0)[:, 32:224], options=options)
    np.testing.assert_array_equal(rendering.premultiplied, own.premultiplied)
    np.testing.assert_allclose(rendering.pose.rotation, euler_to_matrix(20, 0, 0), atol=1e-6)


def test_the_edited_pose_is_what_is_rendered_and_where_it_is_pasted(
    avatar: Avatar, portrait: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, rendered, pasted, paste = cast(Echo, avatar.model), [], [], Placement.paste

    def render(identity: Identity, motion: Motion) -> Output:
        rendered.extend(head_pose(motion[slice(i, i + 1)].pose) for i in range(len(motion)))
        return Echo.render(network, identity, motion)

    def record(self: Placement, picture: np.ndarray, plate: np.ndarray, head: Rendering, around: Any) -> np.ndarray:
        pasted.append(head.pose)
        return paste(self, picture, plate, head, around)

    monkeypatch.setattr(network, "render", render)
    monkeypatch.setattr(Placement, "paste", record)
    avatar.pose_from = PoseFrom.LANDMARKS
    seen = moved(portrait, 6, roll=20)
    source = avatar.encode(portrait)
    options = AnimateOptions(
        frontal=True, yaw=20, roll=-15, translation_from=TranslationFrom.SOURCE, scale_from=ScaleFrom.SOURCE
    )
    list(avatar.animate(source, [np.zeros_like(seen), seen], options))  # before the first face, too
    rest = head_pose(source.motion.pose)
    assert len(rendered) == len(pasted) == 2
    for pose in rendered + pasted:
        np.testing.assert_allclose(pose.rotation, euler_to_matrix(20, 0, -15), atol=1e-6)
        np.testing.assert_array_equal(pose.translation, rest.translation)
        assert pose.scale == rest.scale


def test_the_photo_keeps_its_size_up_to_max_side(avatar: Avatar, portrait: np.ndarray) -> None:
    wide = np.pad(portrait, ((0, 0), (0, 300), (0, 0)), mode="edge")
    (frame,) = avatar.animate(wide, moved(portrait, 0))
    assert frame.image.shape == (512, 812, 3)
    (frame,) = avatar.animate(wide, moved(portrait, 0), AnimateOptions(max_side=406))
    assert frame.image.shape == (256, 406, 3)


def test_flat_and_transparent_backgrounds_show_the_crop(avatar: Avatar, portrait: np.ndarray) -> None:
    (frame,) = avatar.animate(portrait, moved(portrait, 0), AnimateOptions(background=Background.COLOR, size=50))
    assert frame.image.shape == (50, 50, 3)
    options = AnimateOptions(background=Background.TRANSPARENT, size=50)
    (frame,) = avatar.animate(portrait, moved(portrait, 0), options)
    assert frame.image.shape == (50, 50, 4)
    assert frame.image[..., 3].min() == 255  # the echo is opaque


def test_drivers_scene_is_kept_around_the_head(avatar: Avatar, portrait: np.ndarray) -> None:
    view = moved(portrait, 0)
    (frame,) = avatar.animate(portrait, view, AnimateOptions(background=Background.DRIVER))
    assert frame.image.shape == view.shape
    # The echo puts the driver's own head back: the whole frame has to be about what it was.
    assert np.abs(frame.image.astype(int) - view).mean() < 8  # 64 px are soft


def test_frames_without_a_face_hold_the_last_motion(avatar: Avatar, portrait: np.ndarray) -> None:
    seen = moved(portrait, 0)
    black = np.zeros_like(seen)
    frames = list(avatar.animate(portrait, [black, seen, black], AnimateOptions(crop=True, size=SIZE)))
    assert [frame.held for frame in frames] == [True, False, True]
    assert np.array_equal(frames[1].square, frames[2].square)
    assert frames[0].driver is None


def test_a_driver_without_any_face_is_an_error(avatar: Avatar, portrait: np.ndarray) -> None:
    black = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(FaceError, match="in any frame"):
        list(avatar.animate(portrait, [black] * 3))


def test_a_preview_is_the_middle_frame(avatar: Avatar, portrait: np.ndarray) -> None:
    options = AnimateOptions(size=SIZE)
    tilted = moved(portrait, 0, roll=12)
    upright = moved(portrait, 0)
    (alone,) = avatar.animate(portrait, tilted, options)
    preview = avatar.preview(portrait, [upright, upright, tilted, upright, upright], options)
    assert np.array_equal(preview.image, alone.image)
    early = avatar.preview(portrait, [upright, tilted, upright, upright], AnimateOptions(size=SIZE, max_seconds=0.12))
    assert np.array_equal(early.image, alone.image)  # the middle of what is used


def test_a_preview_starts_relative_motion_from_the_neutral_frame_of_the_whole_driver(
    avatar: Avatar, portrait: np.ndarray
) -> None:
    options = AnimateOptions(motion=MotionMode.RELATIVE, size=SIZE, crop=True)
    tilted = moved(portrait, 0, roll=-25)
    upright = moved(portrait, 0)
    turned = avatar.preview(portrait, [upright, tilted, upright], options).square.astype(int)
    still = avatar.preview(portrait, [tilted, upright, tilted], options).square.astype(int)
    own = avatar.render(shown := avatar.encode(portrait), shown.motion).resized(SIZE)[..., :3] * 255
    assert np.abs(still - own).mean() < 3 < np.abs(turned - own).mean()


def test_a_preview_looks_elsewhere_where_the_middle_shows_no_face(avatar: Avatar, portrait: np.ndarray) -> None:
    seen = moved(portrait, 0)
    black = np.zeros_like(seen)
    assert not avatar.preview(portrait, [black, black, black, seen], AnimateOptions(size=SIZE)).held
    with pytest.raises(FaceError, match="at the 4 places"):
        avatar.preview(portrait, [black] * 4)


def test_faces_are_counted_from_left_to_right(avatar: Avatar, portrait: np.ndarray) -> None:
    head = moved(portrait, 0)
    group = np.full((192, 390, 3), 90, np.uint8)
    group[40:136, :128], group[:, 134:] = head[::2, ::2], head
    largest, left, right = (avatar.encode(group, face=n) for n in (None, 1, 2))
    assert largest.head.faces == 2
    assert left.head.crop.center_x < 128 < right.head.crop.center_x
    assert largest.head.crop == right.head.crop
    with pytest.raises(FaceError, match="at least 3 faces"):
        avatar.encode(group, face=3)


def test_a_cat_is_refused(avatar: Avatar) -> None:
    with pytest.raises(FaceError, match="human face"):
        avatar.encode(np.ascontiguousarray(skimage.data.cat()))


def test_a_real_network_drives(analyzer: FaceAnalyzer, tiny_config: ModelConfig, portrait: np.ndarray) -> None:
    avatar = Avatar(BaseModel(tiny_config), analyzer=analyzer)
    encoded = avatar.encode(portrait)
    rendering = avatar.drive(encoded, moved(portrait, 0)[:, 32:224])
    side = encoded.square.shape[0]  # finer than the network's 32 px: the photo's detail came along
    assert side > 32 and rendering.premultiplied.shape == (side, side, 4)
    assert np.isfinite(rendering.premultiplied).all()


def test_frames_together_are_frames_one_by_one(
    analyzer: FaceAnalyzer, tiny_config: ModelConfig, portrait: np.ndarray
) -> None:
    avatar = Avatar(BaseModel(tiny_config), analyzer=analyzer)
    encoded = avatar.encode(portrait)
    squares = [moved(portrait, 4.0 * i)[:, 32:224] for i in range(3)]
    together = avatar.renders(encoded, avatar.motions(squares))
    for rendering, square in zip(together, squares, strict=True):
        alone = avatar.render(encoded, avatar.motion(square))
        np.testing.assert_allclose(rendering.premultiplied, alone.premultiplied, atol=1e-4)
        np.testing.assert_allclose(rendering.pose.rotation, alone.pose.rotation, atol=1e-4)


@pytest.mark.parametrize("background", [True, False])
def test_sources_keep_their_background_for_models_that_predict_it(
    avatar: Avatar, portrait: np.ndarray, background: bool
) -> None:
    avatar.model.config = cast(
        ModelConfig, SimpleNamespace(image_size=SIZE, predict_matte=False, predict_background=background)
    )
    encoded = avatar.encode(portrait)
    whole = avatar._tensor(encoded.square)
    behind = (avatar._tensor(np.repeat(np.rint(255 * encoded.matte[..., None]).astype(np.uint8), 3, 2)) < 0.01).float()
    shown = (encoded.identity.volume - whole * background).abs() * behind  # else on black
    assert behind.mean() > 0.2 and shown.max() < 0.05
    if background:
        np.testing.assert_array_equal(encoded.fine[0, :3].permute(1, 2, 0) * 255, encoded.square)


def test_a_model_without_matte_is_cut_out(
    analyzer: FaceAnalyzer, tiny_config: ModelConfig, portrait: np.ndarray
) -> None:
    avatar = Avatar(BaseModel(tiny_config.model_copy(update={"predict_matte": False})), analyzer=analyzer)
    (frame,) = avatar.animate(portrait, moved(portrait, 0), AnimateOptions(size=32))
    assert frame.square.shape == (32, 32, 3)


def test_wrong_arguments_are_said(avatar: Avatar) -> None:
    with pytest.raises(ShapeError, match="square head crop"):
        avatar.motion(np.zeros((4, 5, 3), np.uint8))
    with pytest.raises(WeightsError):
        Avatar.from_pretrained("no-such-weights")
    with pytest.raises(ConfigError, match="device"):
        Avatar.from_pretrained("nano", device="abacus")
    with pytest.raises(ConfigError, match="pose_from: expected 'network' or 'landmarks', got 'nose'"):
        Avatar.from_pretrained("nano", device="cpu", pose_from="nose")


def test_options_are_checked() -> None:
    control = ({"yaw": 91}, {"pitch": -91}, {"roll": float("nan")}, {"expression_strength": -0.1})
    for wrong in ({"size": 4}, {"max_seconds": 0.0}, {"face": 0}, {"color": (0, 0, 300)}, *control):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            AnimateOptions(**wrong)  # type: ignore[arg-type]
    assert parse_color("#00b140") == (0, 177, 64)
    with pytest.raises(ConfigError, match="#RRGGBB"):
        parse_color("green")


def test_the_landmarks_pose_reaches_the_network_unchanged(avatar: Avatar, monkeypatch: pytest.MonkeyPatch) -> None:
    pose = HeadPose(euler_to_matrix(20, -5, 10), np.array([0.1, -0.2]), 1.1)
    seen: list[Pose | None] = []
    network = cast(Echo, avatar.model)

    def motion(image: torch.Tensor, pose: Pose | None = None, blendshapes: torch.Tensor | None = None) -> Motion:
        seen.append(pose)
        return Echo.motion(network, image, pose)

    monkeypatch.setattr(network, "motion", motion)
    avatar.pose_from = PoseFrom.LANDMARKS
    avatar.motions([np.zeros((64, 64, 3), np.uint8)], [pose])
    assert len(seen) == 1 and seen[0] is not None
    back = head_pose(seen[0])
    np.testing.assert_allclose(back.rotation, pose.rotation, atol=1e-6)
    np.testing.assert_allclose(back.translation, pose.translation, atol=1e-6)
    assert back.scale == pytest.approx(1.1)


def test_measured_blendshapes_reach_a_network_that_asks_for_them(
    analyzer: FaceAnalyzer, portrait: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor | None] = []

    def motion(image: torch.Tensor, pose: Pose | None = None, blendshapes: torch.Tensor | None = None) -> Motion:
        seen.append(blendshapes)
        return Echo.motion(network, image, pose)

    network = Echo()
    network.config.motion.blendshapes = ("eyeBlinkLeft", "jawOpen")
    monkeypatch.setattr(network, "motion", motion)
    (face,) = analyzer.detect(portrait)
    wanted = torch.tensor([[face.blendshape("eyeBlinkLeft"), face.blendshape("jawOpen")]])
    head = np.zeros((SIZE, SIZE, 3), np.uint8)
    for asked in (True, False):
        seen.clear()
        avatar = Avatar(cast(BaseModel, network), analyzer=analyzer, blendshapes=asked, pose_from="network")
        list(avatar.animate(avatar.encode(portrait), [portrait]))  # the source's own, then the driver's
        avatar.drive(avatar.encode(portrait), head, blendshapes=face.blendshapes)
        assert len(seen) == 4
        for scores in seen:
            if asked:
                torch.testing.assert_close(scores, wanted)
            else:
                assert scores is None
