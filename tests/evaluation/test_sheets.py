"""Text in sheets: names keep their letters, and letters that the font lacks show their code."""

from __future__ import annotations

import numpy as np

from megaportraits.evaluation.report.sheets import PAPER, printable, put_text, title


def written(text: str) -> np.ndarray:
    picture = np.full((24, 200, 3), PAPER, np.uint8)
    put_text(picture, text, 4, 16)
    return picture


def test_letters_of_other_alphabets_are_drawn_and_not_question_marks() -> None:
    assert printable("Zoë-Ёлка-Ωμέγα") == "Zoë-Ёлка-Ωμέγα"
    for letter in "ëЁΩ":
        drawn = written(letter)
        assert (drawn < 100).any() and not np.array_equal(drawn, written("?"))


def test_letters_that_the_font_lacks_are_written_as_their_codes() -> None:
    assert printable("漢-a") == "\\u6f22-a" == printable(printable("漢-a"))
    assert np.array_equal(written("漢"), written("\\u6f22"))
    assert np.array_equal(title(128, "漢" * 4), title(128, "\\u6f22" * 4))


def test_a_line_of_the_longest_name_stays_in_its_cell() -> None:
    cell = title(64, "W" * 8)
    assert (cell[:, -1:] == PAPER).all() and (cell < 100).any()
