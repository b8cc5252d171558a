"""`megaportraits study make|serve|report`. Heavy packages are imported inside the functions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from megaportraits.commands.web import HOST_HELP
from megaportraits.errors import ConfigError, DataError

study_app = typer.Typer(
    help="The paper's user study: which of two methods preserves motion (UMTN) and appearance (UAPP) better.",
    no_args_is_help=True,
)
Folder = Annotated[Path, typer.Argument(help="A folder that `study make` wrote.")]


@study_app.command("make")
def make(
    pairs: Annotated[Path, typer.Option(help="The pair manifest (see `megaportraits pairs`).")],
    method: Annotated[
        list[str], typer.Option(help="NAME=FOLDER with PAIR.mp4 or PROTOCOL/PAIR.mp4; two or more times.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for study.json and media/.")],
    questions: Annotated[int, typer.Option(min=1, help="Maximum number of questions of each kind.")] = 60,
    gold: Annotated[int, typer.Option(min=0, help="Gold questions of each kind.")] = 4,
    per_voter: Annotated[int, typer.Option(min=1, help="Questions that one voter answers.")] = 30,
    gold_per_voter: Annotated[
        int | None, typer.Option(min=0, help="Gold questions among them; default 4 if --gold.")
    ] = None,
    size: Annotated[int, typer.Option(min=64, help="Longest side of images and videos, pixels.")] = 480,
    seconds: Annotated[float, typer.Option(min=0.2, help="Maximum length of a video, seconds.")] = 6.0,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
) -> None:
    """Draw random triplets of a reference and two methods' results, and encode their files for browsers."""
    from rich.progress import Progress

    from megaportraits.evaluation.pairs import read_manifest
    from megaportraits.evaluation.study.make import make_study
    from megaportraits.evaluation.study.plan import StudySettings

    checks = min(4, 2 * gold) if gold_per_voter is None else gold_per_voter
    settings = StudySettings(questions, gold, per_voter, checks, size, seconds, seed)
    methods = _methods(method)
    with Progress(transient=True) as bar:
        task = bar.add_task("Preparing questions", total=None)
        study, missing = make_study(
            out,
            read_manifest(pairs),
            methods,
            settings,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    asked = [q.triplet for q in study.questions if q.triplet.gold is None]
    counts = [sum(t.kind == kind for t in asked) for kind in ("motion", "appearance")]
    typer.echo(f"{out}: {counts[0]} questions about motion, {counts[1]} about appearance, {2 * gold} gold")
    for name, count in missing.items():
        if count:
            typer.secho(f"{name} lacks the results of {count} pairs", err=True)


@study_app.command("serve")
def serve(
    study: Folder,
    host: Annotated[list[str], typer.Option(help=HOST_HELP)] = ["127.0.0.1"],  # noqa: B006
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free port.")] = 8000,
    invites: Annotated[
        int,
        typer.Option(
            min=0, help="Print this many new links, each for one voter; only voters with a link can vote then."
        ),
    ] = 0,
    address: Annotated[
        str | None, typer.Option(help="First part of the links, for example https://study.example.org.")
    ] = None,
) -> None:
    """Serve the study until Ctrl-C; votes are stored in STUDY/votes.sqlite."""
    from megaportraits.evaluation.study.plan import Study
    from megaportraits.evaluation.study.votes import Ballot
    from megaportraits.web.hosts import Hosts
    from megaportraits.web.study import serve_study

    hosts = Hosts.of(host, also=[_host_of(address)] if address else [])

    def ready(found: str) -> None:
        typer.echo(f"Study at {found} (Ctrl-C stops it)")
        # Only after the port is open: stored invitations that were never printed would exclude all voters.
        codes = Ballot(study, Study.read(study)).invite(invites) if invites else []
        for code in codes:
            typer.echo(f"{(address or found).rstrip('/')}/?invite={code}")

    serve_study(study, hosts=hosts, port=port, ready=ready)


@study_app.command("report")
def report(
    study: Folder,
    out: Annotated[Path | None, typer.Option(help="Also write study-report.md and .json into this folder.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing report.")] = False,
) -> None:
    """Print UMTN and UAPP of every method in per cent, with 95 % bootstrap intervals."""
    from megaportraits.evaluation.study.plan import Study
    from megaportraits.evaluation.study.report import report_study
    from megaportraits.evaluation.study.votes import Ballot

    content = Study.read(study)
    ballot = Ballot(study, content)
    found = report_study(content, ballot.votes(), sharing=ballot.shared_addresses())
    typer.echo(found.to_markdown())
    for path in found.write(out, overwrite=overwrite) if out else []:
        typer.echo(str(path))


def _host_of(address: str) -> str:
    """The host name in a URL."""
    try:
        parts = urlsplit(address)
        if parts.scheme in ("http", "https") and parts.hostname:
            return parts.hostname
    except ValueError:
        pass
    raise ConfigError(f"--address {address!r}: expected a URL.", fix="As https://study.example.org")


def _methods(given: list[str]) -> dict[str, Path]:
    methods: dict[str, Path] = {}
    for one in given:
        name, separator, folder = one.partition("=")
        if not separator or not name or not folder or name in methods:
            raise DataError(
                f"--method {one!r}: expected NAME=FOLDER, each name once.", fix="As --method nano=results/nano"
            )
        methods[name] = Path(folder)
    return methods
