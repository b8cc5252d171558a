"""Writes the files of a report."""

from __future__ import annotations

from pathlib import Path

from megaportraits.evaluation.report.page import to_html
from megaportraits.evaluation.report.results import Report
from megaportraits.evaluation.report.sheets import contact_sheet
from megaportraits.evaluation.report.tables import to_markdown
from megaportraits.evaluation.report.worst import file_name, ranked_methods, worst_sheet
from megaportraits.media import check_outputs, write_image
from megaportraits.media.staging import staged_output

REPORT_FILES = ("report.json", "report.md", "report.html")


def write_report(report: Report, out: Path, *, overwrite: bool = False) -> list[Path]:
    """Write `REPORT_FILES`, a contact sheet for each protocol, and images of the worst pairs into a folder.

    Raises:
        MediaError: a file exists and `overwrite` is false, or the folder cannot be written.
    """
    worst = {
        file_name(protocol, method): worst_sheet(report, protocol, method, out / "results")
        for protocol in report.protocols
        for method in ranked_methods(report, protocol)
    }
    names = [*REPORT_FILES, *(f"contact-{protocol}.png" for protocol in report.protocols)]
    check_outputs(out, worst, overwrite=overwrite)
    paths = check_outputs(out, names, overwrite=overwrite)
    texts = (report.to_json(), to_markdown(report), to_html(report, out / "videos", worst))
    for path, text in zip(paths, texts, strict=False):
        with staged_output(path, overwrite=overwrite) as part:
            part.write_text(text, encoding="utf-8")
    for path, protocol in zip(paths[len(texts) :], report.protocols, strict=True):
        write_image(path, contact_sheet(report.of(protocol), list(report.methods)), overwrite=overwrite)
    for name, picture in worst.items():
        write_image(out / name, picture, overwrite=overwrite)
    return [*paths, *(out / name for name in worst)]
