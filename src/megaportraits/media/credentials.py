"""Content credentials (C2PA): outputs state, signed, what made them and that they are synthetic.

The manifest follows C2PA 2: one action `c2pa.created` with an IPTC digital source type, the source as an ingredient
of the relationship `inputTo` (input of a model), and one assertion of our own with hashes. Signing needs the extra
`credentials`; `media.certificates` reads certificates and keys.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from megaportraits import __version__
from megaportraits.errors import ConfigError, MediaError, SigningError
from megaportraits.extras import optional_dependency
from megaportraits.media.files import check_input
from megaportraits.media.provenance import Origin
from megaportraits.media.staging import Sign
from megaportraits.weights import sha256_of

SIGNED_SUFFIXES = (".mp4", ".m4v", ".mov", ".png", ".jpg", ".jpeg", ".webp")
"""Suffixes of outputs that can be signed."""
GENERATION = "org.megaportraits.generation"
"""Label of our assertion: model, SHA-256 of the weights by role, SHA-256 of the source."""
_SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_FULLY, _PARTLY = "trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia"
_MEDIA_TYPES = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".avif": "image/avif",
    ".heic": "image/heic",
    ".heif": "image/heif",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".gif": "image/gif",
    ".mp4": "video/mp4",
    ".m4v": "video/x-m4v",
    ".mov": "video/quicktime",
}
_UNTRUSTED = "signingCredential.untrusted"
_UNKNOWN = "application/octet-stream"
_SETTINGS = {
    # Nothing is fetched from addresses that a source's own manifest names.
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
    "builder": {"thumbnail": {"enabled": False}},
}


@dataclass(frozen=True)
class Credentials:
    """A certificate chain and its key, with which outputs are signed; see `certificates.load_credentials`.

    Attributes:
        chain: certificates in PEM, the signer's first.
        key: the signer's private key, unencrypted PKCS #8 in PEM. It is neither printed nor written anywhere.
        algorithm: signature algorithm in C2PA's terms, such as "es256".
        fingerprint: SHA-256 of the signer's certificate.
        timestamps: address of a timestamp authority (RFC 3161), or None: signatures carry no time that is proven.
    """

    chain: str
    key: str = field(repr=False)
    algorithm: str
    fingerprint: str
    timestamps: str | None = None

    def try_out(self) -> None:
        """Sign a picture in memory, so that a problem appears before any work.

        Raises:
            ConfigError: the certificate does not meet the rules of C2PA, or the timestamp authority does not answer.
        """
        picture = io.BytesIO()
        Image.new("RGB", (8, 8)).save(picture, "PNG")
        picture.seek(0)
        try:
            self._sign(_manifest(Origin("test")), None, "image/png", picture, io.BytesIO())
        except SigningError as error:
            raise ConfigError(
                f"--credentials: a trial signature failed: {error.reason}",
                fix="The certificate must be issued by another one (not self-signed), for digital signatures, with an "
                "extended key usage such as e-mail protection. A timestamp authority must be reachable.",
            ) from error

    def signer(self, origin: Origin) -> Sign:
        """A function that signs outputs; the files that `origin` names are hashed now, as they are read.

        The function raises SigningError if signing failed, for example because the timestamp authority does not
        answer, and OSError if the copy cannot be written.
        """
        manifest = _manifest(origin)

        def sign(unsigned: Path, signed: Path) -> None:
            with unsigned.open("rb") as file, signed.open("w+b") as copy:
                self._sign(manifest, origin.source, _MEDIA_TYPES[unsigned.suffix.lower()], file, copy)

        return sign

    def _sign(self, manifest: dict[str, Any], source: Path | None, media_type: str, file: Any, copy: Any) -> None:
        c2pa = _c2pa()
        chain, key = self.chain.encode(), self.key.encode()
        info = c2pa.C2paSignerInfo(self.algorithm, chain, key, self.timestamps)
        try:
            builder = c2pa.Builder(manifest, self._context)
            if source is not None:
                _add_source(builder, source)
            builder.sign(c2pa.Signer.from_info(info), media_type, file, copy)
        except c2pa.C2paError as error:
            raise SigningError(str(error)) from error

    @cached_property
    def _context(self) -> Any:
        return _c2pa().Context.from_dict(_SETTINGS)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_context"}


def check_signable(path: Path) -> None:
    """Check that a file of this suffix can be signed.

    Raises:
        MediaError: it cannot.
    """
    if path.suffix.lower() not in SIGNED_SUFFIXES:
        raise MediaError(
            f"{path}: {path.suffix or 'files without suffix'} cannot carry content credentials",
            fix=f"Name it {', '.join(SIGNED_SUFFIXES)} (transparent videos: .mov), or leave --credentials out.",
        )


@dataclass(frozen=True)
class SignedStatement:
    """What a file's manifest states, and whether it is intact.

    Attributes:
        intact: whether the file is unchanged since it was signed and the signature fits.
        problems: C2PA's codes of failed checks.
        signer: name in the signer's certificate. Whether to trust it is not checked: that takes a list of issuers.
        generator: program that signed the file, with its version.
        source_type: last part of the IPTC digital source type, such as "trainedAlgorithmicMedia"; "" if none.
        generation: our assertion, see `GENERATION`; empty in files of other programs.
    """

    intact: bool
    problems: tuple[str, ...]
    signer: str
    generator: str
    source_type: str
    generation: dict[str, Any]

    def lines(self) -> list[str]:
        """The statement as text."""
        state = "intact" if self.intact else "CHANGED since it was signed, or wrongly signed"
        said = [
            f"content credentials: {state}",
            f"signed by: {self.signer} (not checked against a list of trusted issuers)",
            f"made by: {self.generator}",
        ]
        said += [f"digital source type: {self.source_type}"] if self.source_type else []
        said += [f"{name}: {value}" for name, value in _flat(self.generation)]
        return said + [f"failed check: {code}" for code in self.problems]


def read_statement(path: str | Path) -> SignedStatement | None:
    """What a file's content credentials state; None if it has none.

    Raises:
        MissingPackageError: the extra `credentials` is not installed.
        MediaError: the file cannot be read, or is of a format without content credentials.
    """
    path = check_input(path)
    c2pa = _c2pa()
    media_type = _MEDIA_TYPES.get(path.suffix.lower())
    if media_type is None:
        check_signable(path)
    try:
        with path.open("rb") as file:
            reader = c2pa.Reader(media_type, file, context=c2pa.Context.from_dict(_SETTINGS))
            store, state = json.loads(reader.json()), reader.get_validation_state()
    except c2pa.C2paError.ManifestNotFound:
        return None
    except c2pa.C2paError as error:
        raise MediaError(f"{path}: its content credentials cannot be read ({error})") from error
    manifest = store["manifests"][store["active_manifest"]]
    said = {each["label"]: each["data"] for each in manifest.get("assertions", [])}
    actions: list[dict[str, Any]] = next(
        (data["actions"] for label, data in said.items() if label.startswith("c2pa.actions")), []
    )
    checks = store.get("validation_results", {}).get("activeManifest", {})
    names = [" ".join([each["name"], each.get("version", "")]) for each in manifest.get("claim_generator_info", [])]
    return SignedStatement(
        intact=state in ("Valid", "Trusted"),
        problems=tuple(code for check in checks.get("failure", []) if (code := check["code"]) != _UNTRUSTED),
        signer=manifest.get("signature_info", {}).get("common_name") or "unknown",
        generator=", ".join(names),
        source_type=next((a["digitalSourceType"].rpartition("/")[2] for a in actions if "digitalSourceType" in a), ""),
        generation=said.get(GENERATION, {}),
    )


def _manifest(origin: Origin) -> dict[str, Any]:
    """The manifest of an output, without the source."""
    action = {
        "action": "c2pa.created",
        "digitalSourceType": _SOURCE_TYPES + (_PARTLY if origin.composite else _FULLY),
        "softwareAgent": {"name": f"MegaPortraits {origin.model}", "version": __version__},
    }
    generation: dict[str, Any] = {
        "model": origin.model,
        "weights_sha256": {role: sha256_of(file) for role, file in origin.weights.items()},
    }
    if origin.source is not None:
        generation["source_sha256"] = sha256_of(origin.source)
        action["parameters"] = {"ingredientIds": ["source"]}
    return {
        "claim_generator_info": [{"name": "MegaPortraits", "version": __version__}],
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [action]}},
            {"label": GENERATION, "data": generation},
        ],
    }


def _add_source(builder: Any, source: Path) -> None:
    """Add the source as an ingredient, with the manifest that it may carry itself. Its file name is left out."""
    described = {"title": "Source of the person", "relationship": "inputTo", "label": "source"}
    media_type = _MEDIA_TYPES.get(source.suffix.lower(), _UNKNOWN)
    try:
        with source.open("rb") as content:
            builder.add_ingredient(described, media_type, content)
    except (OSError, _c2pa().C2paError):  # removed meanwhile, or in another format than its name says
        builder.add_ingredient(described, _UNKNOWN, io.BytesIO())


def _flat(tree: dict[str, Any], above: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for name, value in tree.items():
        pairs += _flat(value, f"{above}{name} ") if isinstance(value, dict) else [(above + name, value)]
    return pairs


def _c2pa() -> Any:
    with optional_dependency("credentials", "--credentials"):
        import c2pa

        return c2pa
