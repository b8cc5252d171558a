"""The web page that animates photographs: layout and event handlers."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from megaportraits.errors import MediaError, MegaPortraitsError
from megaportraits.media import DEFAULT_LIMITS, Limits
from megaportraits.media.credentials import Credentials
from megaportraits.pipeline import AnimateReport, Avatar
from megaportraits.pipeline.demo import demo_driver
from megaportraits.web.faces import NumberedFaces
from megaportraits.web.form import advanced_controls, main_controls, read_options
from megaportraits.web.guard import Guard
from megaportraits.web.hosts import Hosts
from megaportraits.web.requests import page_rules
from megaportraits.web.studio import Stopped, Studio
from megaportraits.web.uploads import UploadFolder, UploadLimits

_TITLE = "MegaPortraits"
_LEAD = "# MegaPortraits\nChoose a photograph and a video. The person of the photograph then moves as in the video."
_FOOT = (
    "Only animate people who agreed to it, and state that the result is synthetic. "
    "Files stay on the computer that runs this page, and are deleted after some hours."
)
_FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
_CSS = """
.gradio-container { max-width: 1200px !important; margin: 0 auto !important; }
#lead p, #foot p { opacity: 0.8; }
#driver video { max-height: 300px; }
/* Both buttons need a program that Gradio downloads from the internet. */
#driver button[aria-label="Trim video to selection"], #driver button[aria-label="Reset video to initial value"] {
  display: none;
}
"""
_MOST_WAITING = 32
"""Calls that wait for a thread in Gradio's queue; jobs wait in the studio, which has its own limit."""
_PICTURE_BUTTONS = ["download", "fullscreen"]
_CLEAN_EVERY, _KEEP_FILES = 600, 6 * 3600
"""Seconds between clean-ups of uploads and results, and age in seconds since the last use at which one is deleted."""
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; "
    "connect-src 'self' data: blob:; frame-ancestors 'self'"
)
"""Forbids browsers to load anything from other servers, even if a library's page requests it."""


@contextmanager
def page_app(
    avatar: Avatar,
    *,
    hosts: Hosts | None = None,
    uploads: UploadLimits = UploadLimits(),
    media: Limits = DEFAULT_LIMITS,
    credentials: Credentials | None = None,
) -> Iterator[Guard]:
    """The page as an ASGI application for any server; its files are deleted when the block ends.

    Args:
        avatar: animates, one job at a time.
        hosts: accepted host names; None for this machine only.
        uploads: what visitors may upload.
        media: limits on one photograph or video, which its job checks.
        credentials: sign results with these; the page then offers no transparent videos, which cannot be signed.
    """
    with tempfile.TemporaryDirectory(prefix="megaportraits-web-", ignore_cleanup_errors=True) as folder:
        # Gradio reads both from the environment only, the first while components are created.
        os.environ["GRADIO_TEMP_DIR"] = folder
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        studio = Studio(avatar, Path(folder), media, credentials)
        page = build_page(studio, _told_limits(uploads, media))
        # Without this, Gradio would accept any path of this machine as a visitor's upload: it checks paths only on
        # pages that it launches itself.
        page.has_launched = True
        # If the outer application has a CORS policy, Gradio does not add its own, which would allow other sites.
        app = FastAPI(openapi_url=None, middleware=[Middleware(CORSMiddleware)])
        gr.mount_gradio_app(
            app,
            page,
            path="/",
            app_kwargs={"openapi_url": None},
            footer_links=[],
            run_history=False,
            show_error=False,
            max_file_size=uploads.bytes,
            ssr_mode=False,
            enable_monitoring=False,
            mcp_server=False,
            pwa=False,
            theme=gr.themes.Soft(primary_hue="blue", neutral_hue="slate", font=_FONTS, font_mono=["monospace"]),
            css=_CSS,
        )
        kept = UploadFolder(Path(folder), uploads, studio.files_in_use)
        try:
            yield Guard(app, hosts or Hosts.of(), page_rules(page, kept), _POLICY)
        finally:
            studio.close()


def build_page(studio: Studio, limits: str) -> gr.Blocks:
    """The page of a studio.

    Args:
        studio: does the work.
        limits: text about limits on files.
    """
    with gr.Blocks(title=_TITLE, analytics_enabled=False, delete_cache=(_CLEAN_EVERY, _KEEP_FILES)) as page:
        gr.Markdown(_LEAD, elem_id="lead")
        with gr.Row():
            with gr.Column(scale=3, min_width=320):
                with gr.Row():
                    with gr.Column(min_width=260):
                        photo, face = _photo_part(studio)
                    with gr.Column(min_width=260):
                        driver = _driver_part()
                controls = main_controls(transparent=studio.credentials is None)
                with gr.Accordion("Advanced: pose, expression, size", open=False):
                    controls |= advanced_controls()
            with gr.Column(scale=2, min_width=320):
                _result_part(studio, photo, driver, {**controls, "face": face})
        gr.Markdown(f"{limits}\n\n{_FOOT}", elem_id="foot")

        def leave(request: gr.Request) -> None:
            # Keep the files: a phone that goes to sleep also disconnects, and returns for its result.
            studio.stop(_visitor(request))

        page.unload(leave)
    page.queue(max_size=_MOST_WAITING)
    return page


def _told_limits(uploads: UploadLimits, media: Limits) -> str:
    """Text for visitors about limits on files."""
    video = [] if media.seconds is None else [f"{media.seconds:.6g} seconds"]
    video += [] if media.frames is None else [f"{media.frames} frames"]
    video.append(f"{media.frame_pixels / 1e6:.4g} megapixels a frame")
    return (
        f"At most: {uploads.bytes / 1e6:.6g} MB a file; {media.pixels / 1e6:.4g} megapixels a photograph; "
        f"{', '.join(video)} a video; {uploads.seconds / 60:.3g} minutes an upload."
    )


def _photo_part(studio: Studio) -> tuple[gr.Image, gr.Radio]:
    """The photograph, and the choice of a face if it shows several."""
    photo = gr.Image(
        label="Photograph", sources=["upload", "webcam", "clipboard"], type="filepath", image_mode=None, height=320
    )
    gr.Examples([[str(path)] for path in example_photos()], photo, label="Or one of these", examples_per_page=8)
    boxes = gr.State()
    numbered = gr.Image(
        label="Whose face is animated? Click one",
        type="numpy",
        interactive=False,
        visible=False,
        buttons=["fullscreen"],
    )
    face = gr.Radio(label="Person in the photograph", info="Counted from the left.", visible=False)

    def find(chosen: Mapping[str, Any] | None) -> tuple[Any, Any, NumberedFaces | None]:
        hidden = gr.update(value=None, visible=False)
        if chosen is None:
            return hidden, gr.update(choices=[], value=None, visible=False), None
        path = _path(chosen, "photograph")
        with _said(photo=path):
            found = studio.faces(path)
        several = len(found.boxes) > 1
        choices = list(range(1, len(found.boxes) + 1))
        radio = gr.update(choices=choices, value=found.largest if several else None, visible=several)
        return gr.update(value=found.picture, visible=True) if several else hidden, radio, found

    def click(found: NumberedFaces | None, event: gr.SelectData) -> Any:
        number = None if found is None else found.at(*event.index)
        return gr.skip() if number is None else number

    photo.change(
        find,
        photo,
        [numbered, face, boxes],
        preprocess=False,
        concurrency_limit=4,
        show_progress="minimal",
        show_progress_on=photo,
        api_visibility="private",
    )
    numbered.select(click, boxes, face, queue=False, show_progress="hidden", api_visibility="private")
    return photo, face


def _driver_part() -> gr.Video:
    driver = gr.Video(label="Video with the motion", sources=["upload", "webcam"], include_audio=True, elem_id="driver")
    gr.Examples([[str(demo_driver())]], driver, label="Or this one")
    return driver


def _result_part(studio: Studio, photo: gr.Image, driver: gr.Video, controls: Mapping[str, gr.Component]) -> None:
    """Buttons and results."""
    with gr.Row():
        animate_button = gr.Button("Animate", variant="primary", scale=2, min_width=120)
        preview_button = gr.Button("Preview", min_width=100)
        stop_button = gr.Button("Stop", min_width=80)
    result = gr.Video(label="Result", interactive=False, autoplay=True, buttons=["download"], height=420)
    note = gr.Markdown()
    still = gr.Image(
        label="Preview: one frame",
        type="numpy",
        format="png",
        interactive=False,
        visible=False,
        buttons=_PICTURE_BUTTONS,
    )

    # `face` is among the parameters because it has no initial value, and programs may omit only parameters with
    # defaults.
    def animate(
        photo: Mapping[str, Any] | None,
        driver: Mapping[str, Any] | None,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),
        face: int | None = None,
        **choices: Any,
    ) -> tuple[str, str, Any]:
        source, video = _path(photo, "photograph"), _path(driver, "video")
        with _said(photo=source, driver=video):
            report = studio.animate(
                _visitor(request),
                source,
                video,
                read_options(choices | {"face": face}),
                lambda ahead: progress(0, desc=_waiting(ahead)),
                lambda done, total: progress((done, total), desc="Animating", unit="frames"),
            )
        return str(report.output), _report(report), gr.update(visible=False)

    def preview(
        photo: Mapping[str, Any] | None,
        driver: Mapping[str, Any] | None,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),
        face: int | None = None,
        **choices: Any,
    ) -> Any:
        source, video = _path(photo, "photograph"), _path(driver, "video")
        with _said(photo=source, driver=video):
            options = read_options(choices | {"face": face})
            image = studio.preview(
                _visitor(request), source, video, options, lambda ahead: progress(0, desc=_waiting(ahead))
            )
        return gr.update(value=image, visible=True)

    def stop(request: gr.Request) -> None:
        studio.stop(_visitor(request))

    for button, work, outputs in (
        (animate_button, animate, [result, note, still]),
        (preview_button, preview, [still]),
    ):
        button.click(
            work,
            [photo, driver],
            outputs,
            inputs_kwargs=dict(controls),
            preprocess=False,  # the pipeline checks files and values, with better messages
            concurrency_limit=None,  # jobs wait in the studio
            show_progress_on=result,
            api_name=work.__name__,
        )
    stop_button.click(stop, queue=False, show_progress="hidden", api_visibility="private")


def example_photos() -> list[Path]:
    """Example pictures in the package: a photograph, then rendered people who do not exist."""
    folder = demo_driver().parent / "avatars"
    return sorted(folder.glob("*.jpg"), key=lambda path: (path.stem != "eileen", path.stem))


def _visitor(request: gr.Request) -> str:
    """An identifier of one open page."""
    return str(request.session_hash)


def _waiting(ahead: int) -> str:
    if not ahead:
        return "Reading the photograph and the video"
    return f"Waiting for {ahead} other job{'s' * (ahead != 1)}"


def _path(chosen: Mapping[str, Any] | None, what: str) -> Path:
    if chosen is None:
        raise gr.Error(f"Choose a {what} first.", title=f"No {what} yet", print_exception=False)
    return Path(chosen["path"])


def _report(report: AnimateReport) -> str:
    said = [f"{report.frames} frame{'s' * (report.frames != 1)}."]
    if report.interrupted:
        said.insert(0, "Stopped; these frames were finished:")
    if report.held:
        said.append(f"No face was found in {report.held} of them; the head does not move there.")
    if report.damage:
        said.append(f"The video is damaged: {report.damage}.")
    return " ".join([*said, *report.remarks])


@contextmanager
def _said(*, photo: Path, driver: Path | None = None) -> Iterator[None]:
    """Turn expected errors into messages for visitors, without paths."""
    try:
        yield
    except Stopped as error:
        raise gr.Error(error.message, title="Stopped", duration=4, print_exception=False) from error
    except MegaPortraitsError as error:
        text = f"{error.message}\n\n{error.fix}".strip()
        for path, kind, name in ((photo, "source", "photograph"), (driver, "driver", "video")):
            text = text.replace(f"the {kind} {path}", f"the {name}").replace(f"{path}: ", f"The {name}: ")
        title = "This file cannot be used" if isinstance(error, MediaError) else "Not possible"
        raise gr.Error(text, title=title, duration=None, print_exception=False) from error
