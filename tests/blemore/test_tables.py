"""Tables: CSV keeps everything, and LaTeX and pages escape all text."""

import csv
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blemore.tables import Table, shown, to_csv, to_html, to_latex, to_text

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
def test_csv_keeps_numbers_exactly(rows):
    table = Table("t", ["text", "fraction", "number"], rows)
    lines = list(csv.reader(io.StringIO(to_csv(table, "signature:1"), newline="")))
    assert lines[-1] == ["# signature:1"]
    assert [(text, float(fraction), int(number)) for text, fraction, number in lines[1:-1]] == rows


class OtherFloat(float):
    """A float like numpy's, with a different repr."""

    def __repr__(self):
        return f"other({float(self)})"


def test_csv_of_other_floats_and_of_empty_cells():
    text = to_csv(Table("t", ["a", "b", "c"], [["x", OtherFloat(1 / 3), None]]), "s")
    assert text == f"a,b,c\nx,{1 / 3!r},\n# s\n"


HOSTILE = "\\ { } & % _ # $ ~ ^ < > | α β ± × → − –\nend"


def test_latex_by_hand():
    table = Table(
        "Scores of A & B",
        ["system", "gain", "low", "high", "p", "α from", "α to"],
        [["a_b-2", -0.0123, -0.2, 0.1755, 0.0004, 0.1, 0.25], ["b", None, None, None, None, None, None]],
    )
    assert (
        to_latex(table, "clips:2|version:1", "tab:a b_1")
        == r"""% clips:2|version:1
% \usepackage{booktabs}
\begin{table}
\centering
\caption{Scores of A \& B}
\label{tab:a-b_1}
\begin{tabular}{lrrrr}
\toprule
system & gain & 95 \% interval & p & $\alpha$ from -- to \\
\midrule
a\_b-2 & $-$0.012 & [$-$0.200, 0.175] & $<$ 0.001 & [0.100, 0.250] \\
b & -- & -- & -- & -- \\
\bottomrule
\end{tabular}
\end{table}
""".replace("0.175]", f"{0.1755:.3f}]")
    )


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("-0.5", "$-$0.5"),
        ("(-.5)", "($-$.5)"),
        ("+0.1 to -0.2", "+0.1 to $-$0.2"),
        ("CLIP-2", "CLIP-2"),
        ("a - b", "a - b"),
        ("2-3", "2-3"),
        ("−1", "$-$1"),
    ],
)
def test_minus_signs_and_hyphens_are_distinguished(text, latex):
    assert latex in to_latex(Table("t", ["a"], [[text]]), "s", "l").splitlines()[10]


def test_only_neighbours_form_an_interval():
    columns = ["a", "low", "p", "high", "α from", "β to", "low", "high"]
    header = to_latex(Table("t", columns, []), "s", "l").splitlines()[8]
    assert header == r"a & low & p & high & $\alpha$ from & $\beta$ to & 95 \% interval \\"


def test_latex_escapes_every_active_character():
    text = to_latex(Table(HOSTILE, ["a", HOSTILE], [[HOSTILE, 0.12345]]), "a_b\n\\input{x}", "tab:}\\x")
    lines = text.splitlines()
    assert lines[0] == r"% a_b \input{x}" and lines[1].startswith("% ")  # comments of one line each
    assert lines[5] == r"\label{tab:-x}" and lines[6] == r"\begin{tabular}{lr}" and lines[-1] == r"\end{table}"
    row = lines[10]
    assert row.count(" & ") == 1 and row.endswith(r" & 0.123 \\") and "end" in row
    for escaped in (row.removesuffix(r" & 0.123 \\"), lines[4].removeprefix(r"\caption{")[:-1]):
        bare = re.sub(r"\\(textbackslash|textasciitilde|textasciicircum)\{\}|\\[{}&%_#$]|\$[^$]*\$", "", escaped)
        assert not set(bare) & set("\\{}&%_#$~^<>|") and bare.isascii()


def test_a_p_value_never_shows_as_zero():
    table = Table("t", ["a", "p", "Holm p", "p of deals", "price"], [["x", 1e-9, 0.00099, 0.0123, 0.0]])
    assert to_text(table).splitlines()[-1].split() == "x < 0.001 < 0.001 0.012 0.0000".split()
    assert to_html(table).count("&lt; 0.001") == 2 and "1e-09" in to_csv(table, "s")


def test_html_escapes():
    text = to_html(Table("<b>", ["<i>"], [["<script>"]]))
    assert not {"<b>", "<i>", "<script>"} & set(re.findall(r"<[^>]*>", text)) and "&lt;script&gt;" in text


@pytest.mark.parametrize(
    ("cell", "text"), [(None, "–"), (0.5, "0.5000"), (3, "3"), ("x", "x"), (OtherFloat(1), "1.0000")]
)
def test_cells_as_people_read_them(cell, text):
    assert shown(cell) == text
