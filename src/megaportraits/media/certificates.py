"""Certificates and keys of content credentials: read, checked, and a pair for tests."""

from __future__ import annotations

import datetime
import itertools
import os
import re
from pathlib import Path
from typing import Any

from megaportraits.errors import ConfigError
from megaportraits.extras import optional_dependency, require
from megaportraits.media.credentials import Credentials
from megaportraits.media.files import check_outputs
from megaportraits.media.staging import staged_output
from megaportraits.reading import read_text

KEY_VARIABLE = "MEGAPORTRAITS_CREDENTIALS_KEY"
"""Environment variable that may hold the private key itself, in PEM."""
TEST_FILES = ("certificate.pem", "key.pem")
"""Files of a pair for tests."""
_KEY = re.compile(r"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL)
_CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
_TEST_DAYS = 365


def load_credentials(certificate: Path, key: Path | None = None, timestamps: str | None = None) -> Credentials:
    """Read and check a certificate chain and its private key, and sign a small picture with them as a trial.

    Args:
        certificate: a PEM file with the signer's certificate first and then its issuers; the root may be left out.
        key: a PEM file with the private key; None: from the environment variable `KEY_VARIABLE`, or from the file of
            the certificate.
        timestamps: http or https address of a timestamp authority; None: none.

    Raises:
        MissingPackageError: the extra `credentials` is not installed.
        ConfigError: a file cannot be read; the key is missing, encrypted, or of another certificate; a certificate has
            expired, is not valid yet, or was not issued by the next one; the trial failed.
    """
    require("credentials", "--credentials", "c2pa", "cryptography")
    with optional_dependency("credentials", "--credentials"):
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
    if timestamps is not None and not timestamps.startswith(("http://", "https://")):
        raise ConfigError(f"--timestamps: expected an address (http or https), got {timestamps!r}")
    text = read_text(certificate, ConfigError)
    try:
        chain = x509.load_pem_x509_certificates(text.encode())
    except ValueError as error:
        raise ConfigError(
            f"{certificate}: expected certificates in PEM (-----BEGIN CERTIFICATE-----), got something else",
            fix="Convert it: openssl x509 -inform der -in FILE -out certificate.pem",
        ) from error
    _check_chain(certificate, chain)
    where, pem = _key_text(certificate, text, key)
    private = _private_key(where, pem)
    if private.public_key() != chain[0].public_key():
        raise ConfigError(
            f"{where}: the key does not belong to the first certificate of {certificate}",
            fix="Name the key that the certificate was requested with; the signer's certificate comes first.",
        )
    credentials = Credentials(
        "".join(_pem(one) for one in chain),
        _unencrypted(private),
        _algorithm(where, private),
        chain[0].fingerprint(hashes.SHA256()).hex(),
        timestamps,
    )
    credentials.try_out()
    return credentials


def make_test_credentials(folder: Path, *, overwrite: bool = False) -> tuple[Path, Path]:
    """Write a certificate chain, under a root that nobody trusts, and its key: for tests only.

    Returns:
        The files of the chain and of the key, which only the user may read.

    Raises:
        MissingPackageError: the extra `credentials` is not installed.
        MediaError: a file exists and `overwrite` is false, or the folder cannot be written.
    """
    require("credentials", "`credentials make-test`", "c2pa", "cryptography")
    from cryptography.hazmat.primitives.asymmetric import ec

    files = check_outputs(folder, TEST_FILES, overwrite=overwrite)
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = _issued("MegaPortraits test root (untrusted)", root_key, None, root_key)
    leaf = _issued("MegaPortraits test (untrusted)", key, root, root_key)
    for file, content, private in ((files[0], _pem(leaf) + _pem(root), False), (files[1], _unencrypted(key), True)):
        with staged_output(file, overwrite=overwrite, private=private) as part:
            part.write_text(content, encoding="ascii")
    return files[0], files[1]


def _check_chain(file: Path, chain: list[Any]) -> None:
    now = _now()
    for one in chain:
        name = one.subject.rfc4514_string()
        if now > one.not_valid_after_utc:
            raise ConfigError(
                f"{file}: the certificate of {name} expired on {one.not_valid_after_utc:%Y-%m-%d}",
                fix="Request a new one from its issuer.",
            )
        if now < one.not_valid_before_utc:
            raise ConfigError(
                f"{file}: the certificate of {name} is valid from {one.not_valid_before_utc:%Y-%m-%d}",
                fix="Check this machine's clock, or wait.",
            )
    for issued, issuer in itertools.pairwise(chain):
        try:
            issued.verify_directly_issued_by(issuer)
        except Exception as error:  # the library raises ValueError, TypeError and InvalidSignature
            raise ConfigError(
                f"{file}: {issued.subject.rfc4514_string()} was not issued by the next certificate, "
                f"{issuer.subject.rfc4514_string()}",
                fix="Order them: the signer's certificate, its issuer, the issuer's issuer.",
            ) from error


def _key_text(certificate: Path, text: str, key: Path | None) -> tuple[str, str]:
    """Where the private key was found, and its PEM."""
    if key is not None:
        return str(key), read_text(key, ConfigError)
    if os.environ.get(KEY_VARIABLE):
        return KEY_VARIABLE, os.environ[KEY_VARIABLE]
    if _KEY.search(text):
        return str(certificate), text
    raise ConfigError(
        f"--credentials: expected a private key, found none in {certificate}",
        fix=f"Add --credentials-key FILE, or set {KEY_VARIABLE} to the key in PEM.",
    )


def _private_key(where: str, pem: str) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    found = _KEY.search(pem)
    try:
        return load_pem_private_key((found[0] if found else pem).encode(), password=None)
    except TypeError as error:
        raise ConfigError(
            f"{where}: the private key is encrypted", fix="Decrypt it: openssl pkey -in FILE -out key.pem"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:  # the error's text is left out: it may quote the file
        raise ConfigError(
            f"{where}: expected a private key in PEM (-----BEGIN PRIVATE KEY-----), got something else",
            fix="Convert it: openssl pkey -in FILE -out key.pem",
        ) from error


def _algorithm(where: str, key: Any) -> str:
    """C2PA's name of the signature algorithm that fits a private key."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        return _CURVES[key.curve.name]
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= 2048:
        return "ps256"
    raise ConfigError(
        f"{where}: C2PA does not allow this kind of key",
        fix="Use an elliptic-curve key (P-256, P-384, P-521), Ed25519, or RSA of at least 2048 bits.",
    )


def _issued(name: str, key: Any, issuer: Any | None, issuer_key: Any) -> Any:
    """A certificate for tests: of a root if `issuer` is None, else of a signer."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    names = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "MegaPortraits test"),
        x509.NameAttribute(NameOID.COMMON_NAME, name),
    ]
    subject, root, now = x509.Name(names), issuer is None, _now()
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only"), False
    )
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=_TEST_DAYS))
        .add_extension(x509.BasicConstraints(ca=root, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=not root, key_cert_sign=root, crl_sign=root, decipher_only=False, **usage),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if not root:
        usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        built = built.add_extension(usages, critical=False)
    return built.sign(issuer_key, hashes.SHA256())


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _pem(certificate: Any) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM).decode()


def _unencrypted(key: Any) -> str:
    """A private key as unencrypted PKCS #8 in PEM, the form that the C2PA library reads."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
