"""`megaportraits evaluate` and `ablate`. Heavy packages are imported inside the functions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from megaportraits.choices import PrecisionChoice, TransferName
from megaportraits.commands.pairs import (
    ClipsOption,
    FramesOption,
    LimitOption,
    ProtocolsOption,
    StillsOption,
    read_or_make_pairs,
)
from megaportraits.commands.progress import frame_progress
from megaportraits.commands.torchrun import rank
from megaportraits.errors import ConfigError, WeightsError
from megaportraits.pipeline.options import PoseFrom

if TYPE_CHECKING:
    from megaportraits.evaluation.methods.base import Method
    from megaportraits.evaluation.report.results import Report
    from megaportraits.evaluation.run import Evaluation
    from megaportraits.faces.matting import Matting

ManifestOption = Annotated[
    Path | None, typer.Option(help="Pair manifest of `megaportraits pairs`, instead of folders.")
]
HeadOption = Annotated[
    Path | None, typer.Option(help="ICT-FaceKit head for the baseline `lifted`; without it this baseline is omitted.")
]
PoseOption = Annotated[PoseFrom, typer.Option(help="See `animate`.")]
DeviceOption = Annotated[str, typer.Option(help="Device of models and metric networks: auto, cpu or cuda.")]
ArcFaceOption = Annotated[
    Path | None,
    typer.Option(help="ArcFace weights for CSIM: backbone.pth or .onnx. Default: from the weights cache, else SFace."),
]
ReferencesOption = Annotated[
    list[Path] | None,
    typer.Option(
        help="Statistics of real images for FID, from `reference`; one per image size. Default: each protocol's own."
    ),
]
PrecisionOption = Annotated[
    PrecisionChoice,
    typer.Option(help="auto: bfloat16 where the device has instructions for it."),
]
TransferOption = Annotated[
    TransferName,
    typer.Option(
        help="Motion of trained baselines: absolute, relative to the driver's first frame, or (protocol) absolute for "
        "self and relative for the others."
    ),
]
ReplaceReportOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace a finished report; its measurements are reused.")
]


def evaluate(
    out: Annotated[Path, typer.Option(help="Folder for the report; an interrupted evaluation in it resumes.")],
    clips: ClipsOption = None,
    stills: StillsOption = None,
    manifest: ManifestOption = None,
    protocol: ProtocolsOption = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            help="[NAME=]BASE, BASE+ENHANCER, STUDENT or a file of `train baseline`; may be given several times. "
            "Default: nano."
        ),
    ] = None,
    videos: Annotated[
        list[str] | None, typer.Option(help="NAME=FOLDER: another method's videos, PROTOCOL/PAIR.mp4 in FOLDER.")
    ] = None,
    head: HeadOption = None,
    teacher: Annotated[
        str | None, typer.Option(help="For student: the teacher's weights; its images are the ground truth.")
    ] = None,
    baselines: Annotated[bool, typer.Option(help="Also measure the learning-free baselines.")] = True,
    frames: FramesOption = 60,
    limit: LimitOption = 8,
    size: Annotated[int | None, typer.Option(min=32, help="Side of head crops; default: the first model's.")] = None,
    pose: PoseOption = PoseFrom.LANDMARKS,
    blendshapes: Annotated[bool, typer.Option(help="Correct jaw, lids and gaze by estimated blendshapes.")] = True,
    transfer: TransferOption = "protocol",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    arcface: ArcFaceOption = None,
    reference: ReferencesOption = None,
    overwrite: ReplaceReportOption = False,
) -> None:
    """Measure methods and baselines on the same pairs: the paper's tables, motion, identity and flicker."""
    from megaportraits.evaluation.metrics.metric_networks import MetricNetworks, require_packages
    from megaportraits.evaluation.metrics.reference import load_reference
    from megaportraits.evaluation.report.write import REPORT_FILES, write_report
    from megaportraits.evaluation.run import Evaluation
    from megaportraits.faces.matting import Matting
    from megaportraits.media import check_outputs
    from megaportraits.pipeline.devices import find_device

    require_packages()
    check_outputs(out, REPORT_FILES, overwrite=overwrite)
    references = [load_reference(path) for path in reference or []]
    networks = MetricNetworks(find_device(device), arcface)
    found = read_or_make_pairs(manifest, clips, stills, protocol, frames, limit, out / "media")
    matting = Matting()
    named = (weights if weights or videos else ["nano"]) or []
    models = [
        model_method(text, pose, device, matting, precision, blendshapes=blendshapes, transfer=transfer)
        for text in named
    ]
    methods: list[Method] = [method for method, _ in models]
    methods += [_videos(text) for text in videos or []]
    job = Evaluation(
        methods=[*methods, *(_baselines(head, matting) if baselines else [])],
        pairs=found,
        out=out,
        size=size or (models[0][1] if models else 256),
        teacher=model_method(teacher, pose, device, matting, precision)[0] if teacher else None,
        settings={"pairs": len(found), "pose": pose, **({} if head or not baselines else {"lifted": "no --head"})},
        networks=networks,
        references=references,
    )
    report = run_evaluation(job)
    for path in write_report(report, out, overwrite=overwrite):
        typer.echo(str(path))
    tell_failures(report)
    if not any(row.results for row in report.rows):
        raise typer.Exit(1)


def ablate(
    config: Annotated[list[str], typer.Option(help="Shipped config or YAML file; give several, the full model first.")],
    data: Annotated[Path, typer.Option(help="Folder of training shards (or a folder with train/ and val/).")],
    out: Annotated[Path, typer.Option(help="Folder for runs and report; repeat the command to resume.")],
    samples: Annotated[int, typer.Option(min=1, help="Number of training samples for each config.")],
    clips: ClipsOption = None,
    stills: StillsOption = None,
    manifest: ManifestOption = None,
    protocol: ProtocolsOption = None,
    head: HeadOption = None,
    frames: FramesOption = 60,
    limit: LimitOption = 8,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Override a value in all configs: a.b=c.")
    ] = None,
    head_pose: Annotated[
        Path | None,
        typer.Option(help="Initial head-pose weights (`train head-pose`) for all; paper-* configs need them."),
    ] = None,
    init: Annotated[Path | None, typer.Option(help="Initial weights for all base models.")] = None,
    base: Annotated[
        str | None, typer.Option(help="Train enhancers of this frozen base model; configs such as paper-hr, nano-hr.")
    ] = None,
    device: DeviceOption = "auto",
    arcface: ArcFaceOption = None,
    reference: ReferencesOption = None,
    overwrite: ReplaceReportOption = False,
) -> None:
    """Train each config on the same number of samples, evaluate all on the same pairs, and print the table.

    Works under torchrun.
    """
    from megaportraits.commands.ablation import train_trials
    from megaportraits.evaluation.metrics.metric_networks import MetricNetworks, require_packages
    from megaportraits.evaluation.metrics.reference import load_reference
    from megaportraits.evaluation.pairs import read_manifest, write_manifest
    from megaportraits.evaluation.report.tables import ablation_markdown
    from megaportraits.evaluation.report.write import REPORT_FILES, write_report
    from megaportraits.evaluation.run import Evaluation
    from megaportraits.faces.matting import Matting
    from megaportraits.media import check_outputs
    from megaportraits.media.staging import staged_output
    from megaportraits.pipeline.devices import find_device

    def train() -> dict[str, str]:
        return train_trials(config, data, out, samples, overrides or [], head_pose=head_pose, init=init, base=base)

    if rank():  # under torchrun, only process 0 plans and measures
        train()
        return
    require_packages()
    references = [load_reference(path) for path in reference or []]
    networks = MetricNetworks(find_device(device), arcface)
    check_outputs(out, (*REPORT_FILES, "ablation.md"), overwrite=overwrite)
    kept = out / "pairs.csv"
    if kept.is_file() and manifest is None:
        manifest = kept  # the interrupted run's pairs
    found = read_or_make_pairs(manifest, clips, stills, protocol, frames, limit, out / "media")
    if not kept.is_file() or read_manifest(kept) != found:
        write_manifest(kept, found, overwrite=overwrite)
    trials = train()
    matting = Matting()
    models = [model_method(f"{name}={path}", PoseFrom.LANDMARKS, device, matting) for name, path in trials.items()]
    job = Evaluation(
        methods=[*(method for method, _ in models), *_baselines(head, matting)],
        pairs=found,
        out=out,
        size=models[0][1],
        settings={"pairs": len(found), "samples": samples},
        networks=networks,
        references=references,
    )
    report = run_evaluation(job)
    write_report(report, out, overwrite=overwrite)
    table = ablation_markdown(report)
    with staged_output(out / "ablation.md", overwrite=overwrite) as part:
        part.write_text(table, encoding="utf-8")
    typer.echo(table)
    typer.echo(f"{out / 'report.html'}")


def run_evaluation(job: Evaluation) -> Report:
    """Run an evaluation with a progress bar."""
    with frame_progress("Measuring") as advance:
        return job.run(advance)


def tell_failures(report: Report) -> None:
    """Print every missing result and its reason to stderr."""
    for pair, method, why in report.failures():
        typer.secho(f"{pair}{f', {method}' if method else ''}: not measured: {why}", err=True)


def model_method(
    text: str,
    pose: PoseFrom,
    device: str,
    matting: Matting,
    precision: PrecisionChoice = "auto",
    *,
    blendshapes: bool = True,
    transfer: TransferName = "protocol",
) -> tuple[Method, int]:
    """A method that runs these weights, and the side of its images.

    `text` is [NAME=]BASE, [NAME=]BASE+ENHANCER, [NAME=]STUDENT or [NAME=]BASELINE: shipped names or .safetensors files.
    """
    from megaportraits.baselines.storage import BASELINES, load_baseline
    from megaportraits.evaluation.methods.base import Animated
    from megaportraits.evaluation.methods.students import StudentMethod
    from megaportraits.evaluation.methods.trained import BaselineMethod
    from megaportraits.evaluation.metrics.cost import cost_of_base
    from megaportraits.models.storage import find_base, find_enhancer, load_base, load_enhancer, load_student
    from megaportraits.pipeline import Avatar
    from megaportraits.pipeline.devices import find_device
    from megaportraits.weights import sha256_of

    given, separator, value = text.partition("=")
    base, _, enhancer = (value if separator else given).partition("+")
    path = find_base(base)
    settings = {"weights": path.name, "sha256": sha256_of(path)}
    name = given if separator else _name(path) + ("+hr" if enhancer else "")
    kind = _kind(path)
    if kind in BASELINES:
        model = load_baseline(path, kind, find_device(device))
        return BaselineMethod(name, model, settings, matting, transfer), model.config.image_size
    if kind == "student":
        student = load_student(path, find_device(device))
        return StudentMethod(name, student, settings, matting), student.config.image_size
    avatar = Avatar.from_pretrained(
        base,
        device=device,
        pose_from=pose,
        blendshapes=blendshapes,
        enhancer=enhancer or None,
        precision=precision,
    )
    settings |= {"pose": pose, "blendshapes": str(blendshapes), "precision": avatar.precision} | (
        {"enhancer": sha256_of(find_enhancer(enhancer))} if enhancer else {}
    )
    plain = load_base(path)
    settings |= cost_of_base(plain, load_enhancer(enhancer, plain.config) if enhancer else None)
    return Animated(name, avatar, settings, matting), avatar.output_size


def _kind(path: Path) -> str:
    """The kind of model in a file's metadata; "" for invalid files, which cause an error when they are loaded."""
    from megaportraits.nn.weights_file import read_notes

    try:
        return read_notes(path).get("kind", "")
    except WeightsError:
        return ""


def _name(path: Path) -> str:
    """A method's name for a weights file. Names like `base.safetensors` are replaced by that of the folder."""
    return path.parent.name if path.stem in ("base", "baseline", "student") else path.stem


def _videos(text: str) -> Method:
    from megaportraits.evaluation.methods.base import VideoFolder

    name, separator, folder = text.partition("=")
    if not separator or not name or not folder:
        raise ConfigError(f"--videos: expected NAME=FOLDER, got {text!r}.", fix="For example --videos fomm=results.")
    return VideoFolder(name, Path(folder))


def _baselines(head: Path | None, matting: Matting) -> list[Method]:
    from megaportraits.evaluation.methods.base import AlignedCopy

    baselines: list[Method] = [AlignedCopy()]
    if head is not None:
        from megaportraits.evaluation.methods.lifted import LiftedBaseline

        baselines.append(LiftedBaseline(head, matting))
    return baselines
