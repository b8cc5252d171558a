"""`Avatar`, the main entry point: `encode` a source once, then `drive` it with any number of frames."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from megaportraits.choices import InpaintingName, MattingName, Precision, PrecisionChoice
from megaportraits.config.options import convert_option
from megaportraits.errors import ConfigError
from megaportraits.faces.detector import Blendshapes, FaceAnalyzer
from megaportraits.faces.inpainting import Fill, open_inpainting
from megaportraits.faces.landmarks import select_blendshapes
from megaportraits.faces.matting import Matting, open_matting
from megaportraits.media import DEFAULT_LIMITS, Limits
from megaportraits.media.images import UInt8
from megaportraits.models.base import BaseModel
from megaportraits.models.disocclusion import fill_disocclusions
from megaportraits.models.enhancer import PictureEnhancer, premultiplied
from megaportraits.models.identity import Identity, Output
from megaportraits.models.motion import Motion, infer_motion
from megaportraits.models.picture import finish_picture
from megaportraits.models.source_skip import grow
from megaportraits.models.storage import find_base, find_enhancer, load_base, load_enhancer
from megaportraits.nn.inference import prepare_for_inference, running
from megaportraits.ops.geometry import HeadPose
from megaportraits.ops.precision import find_precision
from megaportraits.pipeline.compose import Rendering
from megaportraits.pipeline.cut_out import cut_out
from megaportraits.pipeline.devices import find_device
from megaportraits.pipeline.driver import Driver, FrameSource, HeadView
from megaportraits.pipeline.enhance import enhance
from megaportraits.pipeline.frames import AnimatedFrame
from megaportraits.pipeline.group import animate_group, find_group
from megaportraits.pipeline.motion import edit_motion
from megaportraits.pipeline.options import (
    ALL_FACES,
    AnimateOptions,
    Faces,
    MotionOptions,
    PoseFrom,
)
from megaportraits.pipeline.portrait import (
    Portrait,
    Source,
    SourceHead,
    find_source_head,
    prepare_source,
)
from megaportraits.pipeline.sequence import animate_portrait, preview_portrait
from megaportraits.pipeline.tensors import flows, head_crop_tensor, head_pose, moved_along, pose_batch


class Avatar:
    """A base model with its face networks: face detection, matting, inpainting and compositing. Not thread-safe.

    Args:
        model: a base model.
        device: the torch device on which the networks run.
        analyzer: finds faces; None: one is created on first use.
        pose_from: see `PoseFrom`.
        blendshapes: whether blendshapes correct z, where the model has a calibration (`models.motion`).
        enhancer: doubles the model's resolution; without one only the photograph's own detail is added.
        precision: numeric precision of the networks.
        matting: name of the matting network (`faces.matting.open_matting`).
        inpainting: name of the method that fills the background behind people (`faces.inpainting.open_inpainting`).
        name: name of the weights, written into the metadata of outputs.
        files: the files of weights by their role, for content credentials.

    Attributes:
        blendshape_names: ARKit names of the blendshapes that the correction of z uses; empty where there is none.
    """

    def __init__(
        self,
        model: BaseModel,
        *,
        device: torch.device | str = "cpu",
        analyzer: FaceAnalyzer | None = None,
        pose_from: PoseFrom | str = PoseFrom.LANDMARKS,
        blendshapes: bool = True,
        enhancer: PictureEnhancer | None = None,
        precision: Precision = "float32",
        matting: MattingName = "selfie",
        inpainting: InpaintingName = "smooth",
        name: str = "model",
        files: Mapping[str, Path] | None = None,
    ) -> None:
        self.device, self.precision, self.name = torch.device(device), precision, name
        self.files = dict(files or {})
        self.model = model.to(self.device).eval()
        self.size = model.config.image_size
        self.pose_from = convert_option("pose_from", PoseFrom, pose_from)
        self.blendshape_names = model.config.motion.blendshapes if blendshapes else ()
        self.enhancer = None if enhancer is None else enhancer.to(self.device).eval()
        self._analyzer = analyzer
        self._matting_name, self._inpainting = matting, inpainting

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path = "nano",
        *,
        device: str = "auto",
        pose_from: PoseFrom | str = PoseFrom.LANDMARKS,
        blendshapes: bool = True,
        enhancer: str | Path | None = None,
        precision: PrecisionChoice = "auto",
        matting: MattingName = "selfie",
        inpainting: InpaintingName = "smooth",
    ) -> Self:
        """Load an avatar from shipped weights ("nano") or a `.safetensors` file that training wrote.

        Args:
            name_or_path: see `models.storage.load_base`.
            device: a torch device, or "auto": CUDA where there is one, else the CPU.
            pose_from: see `PoseFrom`.
            blendshapes: whether blendshapes correct z, where the model has a calibration.
            enhancer: the name of a shipped model that has one ("nano"), or a file of `train enhancer`; None: none.
            precision: numeric precision of the networks; "auto": bfloat16 where the device has instructions for it.
            matting: see `Avatar`; its weights are downloaded on first use.
            inpainting: see `Avatar`; its weights are downloaded on first use.

        Raises:
            WeightsError: no such weights, or an enhancer for another model.
            ConfigError: no such device.
        """
        chosen = find_device(device)
        found = find_precision(chosen, precision)
        model = load_base(name_or_path, chosen)
        prepare_for_inference(model, found)
        finer = None if enhancer is None else load_enhancer(enhancer, model.config, chosen)
        if finer is not None:
            prepare_for_inference(finer, found)
        return cls(
            model,
            device=chosen,
            pose_from=pose_from,
            blendshapes=blendshapes,
            enhancer=finer,
            precision=found,
            matting=matting,
            inpainting=inpainting,
            name=Path(name_or_path).stem,
            files={"base": find_base(name_or_path)}
            | ({} if enhancer is None else {"enhancer": find_enhancer(enhancer)}),
        )

    def in_precision(self, precision: Precision) -> Self:
        """A copy of this avatar whose networks run in another precision. Portraits can be used with both.

        Raises:
            ConfigError: conversion from bfloat16 to float32: the weights are already rounded.
        """
        if precision == self.precision:
            return self
        if precision == "float32":
            raise ConfigError(f"precision: expected an avatar in float32 to start from, got {self.precision}.")
        twin = copy.copy(self)
        twin.precision, twin.model = precision, copy.deepcopy(self.model)
        twin.enhancer = copy.deepcopy(self.enhancer)
        for network in (twin.model, twin.enhancer):
            if network is not None:
                prepare_for_inference(network, precision)
        return twin

    @property
    def output_size(self) -> int:
        """Side of the networks' output, pixels. A source skip can add the photograph's finer detail on top."""
        return self.size if self.enhancer is None else 2 * self.size

    @cached_property
    def analyzer(self) -> FaceAnalyzer:
        """The face analyzer; its weights are downloaded on first use."""
        return self._analyzer or FaceAnalyzer()

    @cached_property
    def matting(self) -> Matting:
        """The matting network; its weights are downloaded on first use."""
        return open_matting(self._matting_name)

    @cached_property
    def fill(self) -> Fill:
        """The inpainting method; its weights are downloaded on first use."""
        return open_inpainting(self._inpainting, str(self.device))

    @cached_property
    def _render_analyzer(self) -> FaceAnalyzer:
        """The face analyzer for rendered images. `analyzer` is in use by the thread that tracks the driver."""
        return FaceAnalyzer(reject_animals=False)

    @cached_property
    def _render_matting(self) -> Matting:
        """The matting network for rendered images. `matting` is in use by the caller's thread, on driver frames."""
        return open_matting(self._matting_name)

    def encode(self, source: Source, *, face: Faces | None = None, limits: Limits = DEFAULT_LIMITS) -> Portrait:
        """Prepare and encode a source: all work that is done once per source.

        Args:
            source: an image or video file, an RGB uint8 image (H, W, 3), or a PIL image.
            face: which face, counted from 1 from left to right; None takes the largest.
            limits: limits on the size of files that are read.

        Raises:
            MediaError: the file cannot be read, or exceeds a limit.
            FaceError: the source shows no human face, or fewer than `face`.
            ShapeError: the source is of another type or shape.
            ConfigError: `face` is "all", which only `animate` and `animate_file` accept.
        """
        if face == ALL_FACES:
            raise ConfigError("A portrait has one face, got all of them.", fix="Choose one, or use animate.")
        return self.encode_head(find_source_head(source, self.analyzer, face, limits))

    def encode_head(self, head: SourceHead) -> Portrait:
        """Encode a face that `find_source_head` has already chosen; see `encode`."""
        prepared = prepare_source(head, self.model.config, self.matting, self.device, fill=self.fill)
        motion = self._motions([prepared.seen], [prepared.pose], [head.face.blendshapes])
        with running(self.device, self.precision):
            identity = self.model.encode(self._tensor(prepared.seen), motion)
        return Portrait(**vars(prepared), identity=identity)

    def motion(self, driver: UInt8) -> Motion:
        """The motion of a driver's head crop, uint8 (N, N, 3) of any size; batch 1."""
        return self.motions([driver])[0]

    def motions(
        self,
        drivers: Sequence[UInt8],
        poses: Sequence[HeadPose] | None = None,
        blendshapes: Sequence[Blendshapes] | None = None,
    ) -> list[Motion]:
        """The motions of several head crops at once, batch 1 each.

        Args:
            drivers: uint8 (N, N, 3) of any size.
            poses: head poses fitted to landmarks, crop coordinates; None: unknown. See `PoseFrom`.
            blendshapes: `Face.blendshapes` of the drivers' faces, NaN for an unknown face; None: all unknown.
        """
        joined = self._motions(drivers, poses, blendshapes)
        return [joined[slice(i, i + 1)] for i in range(len(drivers))]

    def _motions(
        self, heads: Sequence[UInt8], poses: Sequence[HeadPose] | None, blendshapes: Sequence[Blendshapes] | None
    ) -> Motion:
        """The motions of head crops as one batch; `poses` were fitted to landmarks."""
        images = torch.cat([self._tensor(head) for head in heads])
        measured: Tensor | None = None
        if blendshapes is not None and self.blendshape_names:
            measured = torch.from_numpy(select_blendshapes(np.stack(blendshapes), self.blendshape_names)).to(
                self.device
            )
        with running(self.device, self.precision):
            pose = None if poses is None or self.pose_from is PoseFrom.NETWORK else pose_batch(poses, self.device)
            return infer_motion(self.model, images, pose, measured)

    def view_motions(self, views: Sequence[HeadView]) -> Iterator[Motion]:
        """The motions of a driver's tracked heads, batch 1 each; computed as one batch."""
        if views:
            poses = [view.pose.to_crop_pose(view.crop) for view in views]
            joined = self._motions([view.image for view in views], poses, [view.face.blendshapes for view in views])
            yield from (joined[slice(i, i + 1)] for i in range(len(views)))

    def render(self, portrait: Portrait, motion: Motion) -> Rendering:
        """Render the person with a given motion, batch 1."""
        return self.renders(portrait, [motion])[0]

    @property
    def mixes_people(self) -> bool:
        """Whether `renders` accepts several people in one call. False for models with a source skip."""
        return not self.model.config.source_skip

    def renders(self, portrait: Portrait | Sequence[Portrait], motions: Sequence[Motion]) -> list[Rendering]:
        """Render one portrait with several motions, or (`mixes_people`) several portraits with one motion each.

        Motions have batch 1.
        """
        joined = Motion.cat(motions)
        with running(self.device, self.precision):
            if isinstance(portrait, Sequence):
                identity, portrait = Identity.cat([p.identity for p in portrait]), portrait[0]
            else:
                identity = portrait.identity[torch.zeros(len(motions), dtype=torch.long, device=self.device)]
            output = self.model.render(identity, joined)
            draw = self._pictures if output.alpha is not None else self._cut_out_pictures
            pictures = draw(output, portrait.fine)
            if portrait.kept is not None and output.view is not None:
                pictures = pictures * moved_along(portrait.kept, output.view.flow, pictures.shape[-1])
        images = pictures.permute(0, 2, 3, 1).float().cpu().numpy()
        poses = [head_pose(motion.pose) for motion in motions]
        return [Rendering(*each) for each in zip(images, poses, flows(output), strict=True)]

    def _pictures(self, output: Output, fine: Tensor) -> Tensor:
        """The final images (B, 3 or 4, N, N) in [0, 1]: RGB, or premultiplied RGBA where the model predicts alpha."""
        if self.enhancer is not None:
            return enhance(self.enhancer, fill_disocclusions(output, fine), fine)
        pictures = finish_picture(output, fine)
        return pictures if output.alpha is None else premultiplied(pictures)

    def _cut_out_pictures(self, output: Output, fine: Tensor) -> Tensor:
        """Premultiplied RGBA images (B, 4, N, N) of a model that predicts no alpha, such as the paper's."""
        cut = partial(cut_out, analyzer=self._render_analyzer, matting=self._render_matting)
        if self.enhancer is None or self.model.config.predict_background:
            pictures = self._pictures(output, fine)
            mattes = cut(pictures, size=pictures.shape[-1])
            return torch.cat([pictures * mattes, mattes], 1)
        # The enhancer was trained on people cut out over black (3.2), so this model's background has to be removed.
        mattes = cut(output.image, size=2 * output.image.shape[-1])
        pictures = self._pictures(replace(output, image=output.image * F.avg_pool2d(mattes, 2)), fine)
        mattes = grow(mattes, pictures.shape[-1], "bilinear")
        return torch.cat([torch.minimum(pictures, mattes), mattes], 1)

    def drive(
        self,
        portrait: Portrait,
        driver: UInt8,
        *,
        pose: HeadPose | None = None,
        blendshapes: Blendshapes | None = None,
        options: MotionOptions | None = None,
        neutral: Motion | None = None,
    ) -> Rendering:
        """Render the person with the motion of a driver's head crop.

        Args:
            portrait: from `encode`.
            driver: uint8 (N, N, 3) of any size.
            pose: head pose fitted to the driver's landmarks, crop coordinates; None: unknown. See `PoseFrom`.
            blendshapes: `Face.blendshapes` of the driver's face; None: unknown.
            options: see `MotionOptions`; None: the driver's own motion.
            neutral: see `edit_motion`.

        Raises:
            ConfigError: `neutral` is needed and missing.
        """
        measured = None if blendshapes is None else [blendshapes]
        motion = self._motions([driver], None if pose is None else [pose], measured)
        return self.render(portrait, edit_motion(portrait.motion, motion, options or MotionOptions(), neutral=neutral))

    def animate(
        self, source: Source | Portrait, driver: Driver | FrameSource, options: AnimateOptions | None = None
    ) -> Iterator[AnimatedFrame]:
        """Animate a source with a driver, frame by frame, in constant memory.

        The source is encoded and the driver's neutral frame is found before this method returns; frames are computed
        lazily. For `face="all"` see `animate_group`.

        Raises:
            MediaError: a file cannot be read.
            FaceError: the source shows no face, or not the requested one. Raised after the last frame if no driver
                frame showed a face.
        """
        options = options or AnimateOptions()
        if options.face == ALL_FACES and not isinstance(source, Portrait):
            return animate_group(self, find_group(self, source, [driver]), options)
        portrait = source if isinstance(source, Portrait) else self.encode(source, face=options.face)
        frames = driver if isinstance(driver, FrameSource) else FrameSource(driver)
        return animate_portrait(self, portrait, frames, options)

    def preview(
        self, source: Source | Portrait, driver: Driver | FrameSource, options: AnimateOptions | None = None
    ) -> AnimatedFrame:
        """Render a single frame of `animate`, from the middle of the driver.

        If no face is visible there, other positions are tried. Nothing is smoothed over time.

        Raises:
            MediaError: a file cannot be read.
            FaceError: the source shows no face, or not the requested one; no examined driver frame shows a face.
        """
        options = options or AnimateOptions()
        portrait = source if isinstance(source, Portrait) else self.encode(source, face=options.face)
        frames = driver if isinstance(driver, FrameSource) else FrameSource(driver)
        return preview_portrait(self, portrait, frames, options)

    def _tensor(self, image: UInt8) -> Tensor:
        """uint8 (N, N, 3) to (1, 3, S, S) in [0, 1]."""
        return head_crop_tensor(image, self.size, self.device)
