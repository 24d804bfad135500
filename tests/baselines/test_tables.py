"""Tables: CSV keeps everything, LaTeX and pages take every text for text."""

import csv
import io
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blemore_baselines.results.tables import Table, shown, to_csv, to_html, to_latex, to_text

TABLE = Table("Figures", ["name", "clips", "score"], [["one", 12, 1 / 3], ["two & more", None, 0.1 + 0.2]])


def test_what_a_terminal_would_act_on_is_escaped():
    assert "\x1b" not in to_text(Table("Encoders", ["name"], [["\x1b[31mred"]])) and "\\x1b[31mred" in to_text(
        Table("Encoders", ["name"], [["\x1b[31mred"]])
    )


def test_text_aligns_numbers_to_the_right():
    assert to_text(TABLE, "s:1").splitlines() == [
        "Figures",
        "name        clips   score",
        "one            12  0.3333",
        "two & more      –  0.3000",
        "s:1",
    ]


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cc", "Cs"])),
            st.floats(allow_nan=False, allow_infinity=False),
            st.integers(),
        ),
        min_size=1,
    )
)
def test_csv_gives_the_very_numbers_back(rows):
    table = Table("t", ["text", "fraction", "number"], rows)
    found = list(csv.reader(io.StringIO(to_csv(table, "signature:1"), newline="")))
    assert found[-1] == ["# signature:1"]
    assert [(text, float(fraction), int(number)) for text, fraction, number in found[1:-1]] == rows


def test_csv_of_numpy_s_numbers_and_of_nothing():
    text = to_csv(Table("t", ["a", "b", "c"], [["x", np.float64(1 / 3), None]]), "s")
    assert text == f"a,b,c\nx,{1 / 3!r},\n# s\n"
    assert pd.read_csv(io.StringIO(text), comment="#")["b"].tolist() == [1 / 3]


HOSTILE = "\\ { } & % _ # $ ~ ^ < > | α β ± × → − –\nend"


def test_latex_escapes_everything_that_it_would_act_on():
    text = to_latex(Table(HOSTILE, ["a", HOSTILE], [[HOSTILE, 0.12345]]), "a_b\n\\input{x}")
    title, signature, *lines = text.splitlines()
    assert title.startswith("% ") and signature == r"% a_b \input{x}"  # comments of one line each
    assert lines[0] == r"\begin{tabular}{lr}" and lines[-1] == r"\end{tabular}" and len(lines) == 7
    row = lines[4]
    assert row.count(" & ") == 1 and row.endswith(r" & 0.123 \\") and "end" in row
    bare = re.sub(
        r"\\(textbackslash|textasciitilde|textasciicircum)\{\}|\\[{}&%_#$]|\$[^$]*\$",
        "",
        row.removesuffix(r" & 0.123 \\"),
    )
    assert not set(bare) & set("\\{}&%_#$~^<>|") and bare.isascii()


def test_html_escapes():
    text = to_html(Table("<b>", ["<i>"], [["<script>"]]))
    assert not {"<b>", "<i>", "<script>"} & set(re.findall(r"<[^>]*>", text)) and "&lt;script&gt;" in text


@pytest.mark.parametrize(
    ("cell", "text"), [(None, "–"), (0.5, "0.5000"), (3, "3"), ("x", "x"), (np.float64(1), "1.0000")]
)
def test_cells_as_people_read_them(cell, text):
    assert shown(cell) == text
