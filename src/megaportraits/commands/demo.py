"""`megaportraits demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from megaportraits.commands.credentials import CertificateOption, KeyOption, TimestampsOption, open_credentials
from megaportraits.commands.progress import frame_progress
from megaportraits.pipeline.options import AnimateOptions, MotionMode


def demo(
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    weights: Annotated[str, typer.Option(help="Shipped weights by name, or a .safetensors file.")] = "nano",
    motion: Annotated[MotionMode, typer.Option(help="See `animate`.")] = MotionMode.ABSOLUTE,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the files of an earlier demo.")] = False,
    certificate: CertificateOption = None,
    credentials_key: KeyOption = None,
    timestamps: TimestampsOption = None,
) -> None:
    """Animate a bundled photograph with a bundled driver."""
    from megaportraits.pipeline import Avatar
    from megaportraits.pipeline.demo import plan_demo, run_demo

    plan_demo(out, overwrite=overwrite)
    credentials = open_credentials(certificate, credentials_key, timestamps)
    avatar = Avatar.from_pretrained(weights, device=device)
    with frame_progress("Animating") as advance:
        options = AnimateOptions.of({"motion": motion})
        files = run_demo(avatar, out, options, overwrite=overwrite, progress=advance, credentials=credentials)
    typer.echo(f"{files.result}: the animated photograph")
    typer.echo(f"{files.side_by_side}: source, driver and result side by side")
    typer.echo(f"{files.contact}: a contact sheet")
