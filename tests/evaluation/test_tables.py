"""Tables of a report."""

from __future__ import annotations

from dataclasses import replace

from megaportraits.evaluation.report.tables import ablation_markdown
from tests.evaluation.test_worst import report_of, row


def test_an_ablation_at_1024_px_has_its_identity_in_the_table() -> None:
    made = row(0, csim_sface=0.625)
    table = ablation_markdown(report_of([replace(made, pair=replace(made.pair, protocol="hr"))]))
    assert table.startswith("High resolution") and "CSIM (SFace) ↑" in table
    assert "| mine | " in table and "0.625" in table
