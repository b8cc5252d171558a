"""`megaportraits web`. Heavy packages are imported inside the function."""

from __future__ import annotations

import webbrowser
from typing import Annotated

import typer

from megaportraits.commands.credentials import CertificateOption, KeyOption, TimestampsOption, open_credentials
from megaportraits.extras import optional_dependency

HOST_HELP = (
    "Address to listen on. 127.0.0.1: this machine only. 0.0.0.0: all network interfaces. Repeat the option for every "
    "host name that visitors use; requests for other names are refused."
)
_FRAME_PIXELS = 36_000_000
"""Largest frame of an uploaded video, pixels: slightly more than 8K."""


def web(
    weights: Annotated[str, typer.Option(help="Shipped weights by name, or a .safetensors file.")] = "nano",
    hr: Annotated[bool, typer.Option("--hr", help="Enhance to twice the model's resolution; slower.")] = False,
    enhancer: Annotated[
        str | None, typer.Option(help="With --hr: a file of `train enhancer`. Default: the one shipped with --weights.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    host: Annotated[list[str], typer.Option(help=HOST_HELP)] = ["127.0.0.1"],  # noqa: B006
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free port.")] = 7860,
    max_upload: Annotated[int, typer.Option(min=1, help="Largest photograph or video, megabytes.")] = 500,
    max_seconds: Annotated[float, typer.Option(min=0.1, help="Maximum length of a video, seconds.")] = 600,
    max_frames: Annotated[int, typer.Option(min=1, help="Maximum length of a video, frames.")] = 36_000,
    max_megapixels: Annotated[
        int, typer.Option(min=1, help="Largest photograph, megapixels. Frames of videos: at most 36.")
    ] = 100,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
    certificate: CertificateOption = None,
    credentials_key: KeyOption = None,
    timestamps: TimestampsOption = None,
) -> None:
    """Serve a web page that animates photographs; no data leaves this machine."""
    from megaportraits.media import Limits
    from megaportraits.pipeline import Avatar
    from megaportraits.web.hosts import Hosts
    from megaportraits.web.serving import listen, serve

    hosts = Hosts.of(host)
    with optional_dependency("web", "The page"):
        from megaportraits.web.page import page_app
        from megaportraits.web.uploads import UploadLimits

    def ready(address: str) -> None:
        typer.echo(f"MegaPortraits at {address} (Ctrl-C stops it)")
        if browser:
            webbrowser.open(address)

    size, pixels = max_upload * 1_000_000, max_megapixels * 1_000_000
    media = Limits(
        bytes=size, pixels=pixels, frame_pixels=min(pixels, _FRAME_PIXELS), seconds=max_seconds, frames=max_frames
    )
    credentials = open_credentials(certificate, credentials_key, timestamps)
    with listen(hosts, port, needs="web") as listening:
        avatar = Avatar.from_pretrained(weights, device=device, enhancer=enhancer or (weights if hr else None))
        limits = UploadLimits(bytes=size)
        with page_app(avatar, hosts=hosts, uploads=limits, media=media, credentials=credentials) as app:
            serve(app, listening, hosts=hosts, ready=ready)
