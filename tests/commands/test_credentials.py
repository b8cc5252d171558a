"""`--credentials` of every command that has it, and `megaportraits credentials`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage.data
from typer.testing import CliRunner

from megaportraits.cli import app
from megaportraits.config import ModelConfig
from megaportraits.media import write_image
from megaportraits.media.credentials import SignedStatement, read_statement
from megaportraits.models.base import BaseModel
from megaportraits.models.storage import save_base
from megaportraits.weights import sha256_of
from tests.conftest import TINY


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(map(str, words)))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return 1, f"{result.output}{result.exception}"
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photograph, tiny weights, and a certificate with its key."""
    folder = tmp_path_factory.mktemp("signed")
    write_image(folder / "person.png", np.ascontiguousarray(skimage.data.astronaut()[:256, 110:340]))
    save_base(folder / "tiny.safetensors", BaseModel(ModelConfig.model_validate(TINY)))
    code, said = run("credentials", "make-test", "--out", folder)
    assert code == 0 and "untrusted" in said
    return folder


def animate(here: Path, *words: object) -> tuple[int, str]:
    model = ("--weights", here / "tiny.safetensors", "--size", "64")
    signed = ("--credentials", here / "certificate.pem", "--credentials-key", here / "key.pem")
    return run("animate", here / "person.png", here / "person.png", *words, *model, *signed)


def statement(path: Path) -> SignedStatement:
    found = read_statement(path)
    assert found is not None and found.intact
    return found


def test_animate_signs_result_and_side_by_side(here: Path, tmp_path: Path) -> None:
    code, said = animate(here, "-o", tmp_path / "a.png", "--background", "color", "--side-by-side", tmp_path / "b.jpg")
    assert code == 0, said
    for name, kind in ("a.png", "trainedAlgorithmicMedia"), ("b.jpg", "compositeWithTrainedAlgorithmicMedia"):
        found = statement(tmp_path / name)
        assert found.source_type == kind
        assert found.generation == {
            "model": "tiny",
            "weights_sha256": {"base": sha256_of(here / "tiny.safetensors")},
            "source_sha256": sha256_of(here / "person.png"),
        }
    code, said = run("credentials", "show", tmp_path / "a.png")
    assert (
        code == 0 and "content credentials: intact" in said and "not checked against a list of trusted issuers" in said
    )
    assert f"source_sha256: {sha256_of(here / 'person.png')}" in said


def test_a_batch_signs_and_knows_unsigned_results_as_made_differently(here: Path, tmp_path: Path) -> None:
    code, said = animate(here, "--out", tmp_path, "--crop")
    assert code == 0, said
    assert statement(tmp_path / "person_person.png").source_type == "compositeWithTrainedAlgorithmicMedia"
    plain = ("--out", tmp_path, "--crop", "--weights", here / "tiny.safetensors", "--size", "64")
    code, said = run("animate", here / "person.png", here / "person.png", *plain)
    assert code == 1 and "made differently" in said and "credentials" in said


def test_show_tells_files_without_credentials_and_changed_ones_apart(here: Path, tmp_path: Path) -> None:
    assert run("credentials", "show", here / "person.png")[0] == 2
    assert animate(here, "-o", tmp_path / "a.png", "--crop")[0] == 0
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[-14] ^= 1
    (tmp_path / "a.png").write_bytes(content)
    code, said = run("credentials", "show", tmp_path / "a.png")
    assert code == 1 and "CHANGED" in said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("animate", "a.png", "b.png", "--credentials-key", "k"), "--credentials-key: expected with --credentials"),
        (("web", "--timestamps", "http://a"), "--timestamps: expected with --credentials"),
        (("demo", "--out", "o", "--credentials", "missing.pem"), "missing.pem cannot be accessed"),
        (("web", "--credentials", "missing.pem"), "missing.pem cannot be accessed"),
        (("live", "--source", "a.png", "--credentials", "c.pem"), "--credentials: expected with a recording"),
        (("live", "--source", "a", "-o", "a.mkv", "--credentials", "c.pem"), "cannot carry content credentials"),
    ],
)
def test_what_cannot_be_signed_is_reported_before_any_work(
    words: tuple[str, ...], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = run(*words)
    assert code == 1 and told in said, said
    assert list(tmp_path.iterdir()) == []
