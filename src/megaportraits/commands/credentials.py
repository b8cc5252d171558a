"""`megaportraits credentials`, and the options of other commands that sign their outputs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from megaportraits.errors import ConfigError

if TYPE_CHECKING:
    from megaportraits.media.credentials import Credentials

_PANEL = "Content credentials"
CertificateOption = Annotated[
    Path | None,
    typer.Option(
        "--credentials",
        help="Sign results with content credentials (C2PA): a certificate chain (.pem), the signer's first.",
        rich_help_panel=_PANEL,
    ),
]
KeyOption = Annotated[
    Path | None,
    typer.Option(
        "--credentials-key",
        help="Its private key (.pem). Default: the environment variable MEGAPORTRAITS_CREDENTIALS_KEY, which holds the"
        " key itself, or the file of the certificate.",
        rich_help_panel=_PANEL,
    ),
]
TimestampsOption = Annotated[
    str | None,
    typer.Option(
        "--timestamps",
        metavar="URL",
        help="With --credentials: address of a timestamp authority (RFC 3161), which proves when results were signed.",
        rich_help_panel=_PANEL,
    ),
]

credentials_app = typer.Typer(no_args_is_help=True, help="Content credentials (C2PA) of results.")


def open_credentials(certificate: Path | None, key: Path | None, timestamps: str | None) -> Credentials | None:
    """The credentials that the options name; None without --credentials.

    Raises:
        ConfigError: an option is given without --credentials; see also `certificates.load_credentials`.
    """
    if certificate is None:
        for name, value in {"--credentials-key": key, "--timestamps": timestamps}.items():
            if value is not None:
                raise ConfigError(f"{name}: expected with --credentials CERTIFICATE.", fix="Add it.")
        return None
    from megaportraits.media.certificates import load_credentials

    return load_credentials(certificate, key, timestamps)


@credentials_app.command("show")
def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A picture or video.")],
) -> None:
    """Print what a file's content credentials state, and whether it is unchanged. Exit code 1 if it was changed, 2 if
    it has none.
    """
    from megaportraits.media.credentials import read_statement

    statement = read_statement(file)
    if statement is None:
        typer.echo(f"{file}: no content credentials")
        raise typer.Exit(2)
    for line in statement.lines():
        typer.echo(line)
    if not statement.intact:
        raise typer.Exit(1)


@credentials_app.command("make-test")
def make_test(
    out: Annotated[Path, typer.Option("--out", help="Folder for certificate.pem and key.pem.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
) -> None:
    """Make a certificate and key to try out --credentials. Verifiers report that nobody trusts the signer."""
    from megaportraits.media.certificates import make_test_credentials

    certificate, key = make_test_credentials(out, overwrite=overwrite)
    typer.echo(f"{certificate}: a test certificate for a year; verifiers will call its signer untrusted")
    typer.echo(f"{key}: its private key")
