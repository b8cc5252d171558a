"""Content credentials: signed outputs state what made them, changes are detected, wrong credentials are refused."""

from __future__ import annotations

import datetime
import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from megaportraits import __version__
from megaportraits.errors import ConfigError, MediaError, MissingPackageError, SigningError
from megaportraits.media import VideoWriter, certificates, read_image, write_image
from megaportraits.media.certificates import KEY_VARIABLE, load_credentials, make_test_credentials
from megaportraits.media.credentials import SIGNED_SUFFIXES, Credentials, check_signable, read_statement
from megaportraits.media.provenance import Origin

PICTURE = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_test_credentials(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def credentials(pair: tuple[Path, Path]) -> Credentials:
    return load_credentials(*pair)


def written(path: Path, credentials: Credentials | None, origin: Origin) -> Path:
    sign = None if credentials is None else credentials.signer(origin)
    if path.suffix not in (".mp4", ".m4v", ".mov"):
        return write_image(path, PICTURE, sign=sign)
    with VideoWriter(path, sign=sign) as writer:
        for _ in range(3):
            writer.write(PICTURE)
    return path


@pytest.mark.parametrize("suffix", SIGNED_SUFFIXES)
def test_every_format_states_signed_what_made_it(suffix: str, credentials: Credentials, tmp_path: Path) -> None:
    weights, source = tmp_path / "w.safetensors", write_image(tmp_path / "person.png", PICTURE)
    weights.write_bytes(b"weights")
    path = written(tmp_path / f"a{suffix}", credentials, Origin("nano", {"base": weights}, source, composite=False))
    statement = read_statement(path)
    assert statement is not None and statement.intact
    assert statement.problems == ()
    assert statement.generator == f"MegaPortraits {__version__}"
    assert statement.signer == "MegaPortraits test (untrusted)"
    assert statement.source_type == "trainedAlgorithmicMedia"
    assert statement.generation == {
        "model": "nano",
        "weights_sha256": {"base": hashlib.sha256(b"weights").hexdigest()},
        "source_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
    }
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []


def test_the_source_is_an_ingredient_without_its_file_name(credentials: Credentials, tmp_path: Path) -> None:
    import json

    import c2pa

    photo = written(tmp_path / "jane-doe.jpg", credentials, Origin("nano"))  # a photograph with credentials of its own
    path = written(tmp_path / "a.mp4", credentials, Origin("nano", {}, photo))
    store = json.loads(c2pa.Reader(str(path)).json())
    manifest = store["manifests"][store["active_manifest"]]
    (ingredient,) = manifest["ingredients"]
    assert (ingredient["relationship"], ingredient["title"]) == ("inputTo", "Source of the person")
    assert ingredient["active_manifest"] in store["manifests"] and len(store["manifests"]) == 2
    assert b"jane-doe" not in path.read_bytes()


@pytest.mark.parametrize("content", [b"no picture", b""])
def test_sources_that_c2pa_cannot_read_are_hashed_all_the_same(
    content: bytes, credentials: Credentials, tmp_path: Path
) -> None:
    source = tmp_path / "a.png"
    source.write_bytes(content)
    statement = read_statement(written(tmp_path / "b.png", credentials, Origin("nano", {}, source)))
    assert statement is not None and statement.intact
    assert statement.source_type == "compositeWithTrainedAlgorithmicMedia"
    assert statement.generation["source_sha256"] == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("suffix", [".mp4", ".png"])
def test_one_changed_byte_is_detected(suffix: str, credentials: Credentials, tmp_path: Path) -> None:
    path = written(tmp_path / f"a{suffix}", credentials, Origin("nano"))
    content = bytearray(path.read_bytes())
    content[-14] ^= 1
    path.write_bytes(content)
    statement = read_statement(path)
    assert statement is not None and not statement.intact
    assert any(problem.startswith("assertion.") for problem in statement.problems)
    assert any("CHANGED" in line for line in statement.lines())


def test_signing_does_not_change_pictures(credentials: Credentials, tmp_path: Path) -> None:
    plain = written(tmp_path / "a.png", None, Origin("nano"))
    assert read_statement(plain) is None
    signed = written(tmp_path / "b.png", credentials, Origin("nano"))
    assert (read_image(signed) == read_image(plain)).all()


def test_a_result_that_cannot_be_signed_is_kept_without_signature(tmp_path: Path) -> None:
    def fails(unsigned: Path, signed: Path) -> None:
        signed.write_bytes(b"half")
        raise SigningError("the timestamp authority is away")

    for suffix in (".mp4", ".png"):
        with pytest.raises(SigningError, match="timestamp authority is away") as told:
            if suffix == ".png":
                write_image(tmp_path / "a.png", PICTURE, sign=fails)
            else:
                with VideoWriter(tmp_path / "a.mp4", sign=fails) as writer:
                    writer.write(PICTURE)
        assert told.value.kept == (tmp_path / f"a-unsigned{suffix}",)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-unsigned.mp4", "a-unsigned.png"]
    assert (read_image(tmp_path / "a-unsigned.png") == PICTURE).all()


@pytest.mark.parametrize("suffix", [".webm", ".mkv", ".bmp", ""])
def test_formats_without_credentials_are_refused(suffix: str) -> None:
    with pytest.raises(MediaError, match="cannot carry content credentials"):
        check_signable(Path(f"a{suffix}"))


def test_the_key_comes_from_a_file_the_environment_or_beside_the_certificate(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = pair
    meant = load_credentials(certificate, key)
    both = tmp_path / "both.pem"
    both.write_text(certificate.read_text() + key.read_text())
    assert load_credentials(both) == meant
    old = load_pem_private_key(key.read_bytes(), None)
    old_form = old.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()
    monkeypatch.setenv(KEY_VARIABLE, old_form)
    assert load_credentials(certificate) == meant
    assert meant.algorithm == "es256" and "PRIVATE" not in repr(meant)
    copy = pickle.loads(pickle.dumps(meant))
    assert copy == meant
    copy.try_out()


@pytest.mark.posix
def test_the_test_key_is_readable_by_its_owner_only(pair: tuple[Path, Path]) -> None:
    assert pair[1].stat().st_mode & 0o777 == 0o600


def wrong_key(folder: Path, kind: str) -> Path:
    path = folder / "wrong.pem"
    made = rsa.generate_private_key(65537, 1024) if kind == "short" else ec.generate_private_key(ec.SECP256R1())
    locked = BestAvailableEncryption(b"x") if kind == "locked" else NoEncryption()
    text = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked)
    path.write_bytes(b"secret words" if kind == "text" else text)
    return path


@pytest.mark.parametrize(
    ("kind", "told"),
    [("other", "does not belong"), ("locked", "encrypted"), ("text", "expected a private key in PEM")],
)
def test_keys_that_do_not_fit_are_refused(kind: str, told: str, pair: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=told) as refused:
        load_credentials(pair[0], wrong_key(tmp_path, kind))
    assert "secret" not in str(refused.value)


def test_a_missing_key_says_where_it_was_looked_for(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    with pytest.raises(ConfigError, match=f"--credentials-key FILE, or set {KEY_VARIABLE}"):
        load_credentials(pair[0])


@pytest.mark.parametrize(("days", "told"), [(400, "expired on"), (-2, "is valid from")])
def test_certificates_out_of_their_time_are_refused(
    days: int, told: str, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    then = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    monkeypatch.setattr(certificates, "_now", lambda: then)
    with pytest.raises(ConfigError, match=told):
        load_credentials(*pair)


def test_chains_in_the_wrong_order_are_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    leaf, root = x509.load_pem_x509_certificates(pair[0].read_bytes())
    path = tmp_path / "chain.pem"
    path.write_bytes(root.public_bytes(Encoding.PEM) + leaf.public_bytes(Encoding.PEM))
    with pytest.raises(ConfigError, match="was not issued by the next certificate"):
        load_credentials(path, pair[1])


def test_certificates_that_c2pa_does_not_accept_are_refused_before_any_work(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    alone = certificates._issued("self-signed", key, None, key)
    path = tmp_path / "alone.pem"
    path.write_text(certificates._pem(alone) + certificates._unencrypted(key))
    with pytest.raises(ConfigError, match=r"trial signature failed.*self-signed"):
        load_credentials(path)


@pytest.mark.parametrize(
    ("address", "told"), [("ftp://a", "expected an address"), ("http://127.0.0.1:9/", "trial signature failed")]
)
def test_timestamp_authorities_that_do_not_answer_are_reported_before_any_work(
    address: str, told: str, pair: tuple[Path, Path]
) -> None:
    with pytest.raises(ConfigError, match=told):
        load_credentials(*pair, address)


def test_a_missing_package_is_reported_with_its_extra(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("megaportraits.extras.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"megaportraits\[credentials\]"):
        load_credentials(*pair)
