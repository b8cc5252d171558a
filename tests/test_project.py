"""What the project says of itself agrees: versions, metadata, the files beside the code."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from megaportraits import __version__, weights

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_version_of_the_package_is_that_of_the_shipped_weights() -> None:
    card = (weights.assets() / "nano/MODEL_CARD.md").read_text(encoding="utf-8")
    found = re.match(r"# Model card: `nano`, version (\d+\.\d+)\n", card)
    assert found is not None
    assert __version__.rpartition(".")[0] == found[1]


def test_the_metadata_name_no_person_and_no_address() -> None:
    assert PROJECT["authors"] == [{"name": "MegaPortraits contributors"}]
    assert "urls" not in PROJECT and "maintainers" not in PROJECT
