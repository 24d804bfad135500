"""blemore-rank: the order, its stability and the pairs, against naive computation; files, names and messages."""

import csv
import html
import io
import json
import random
import re
from collections import Counter
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner
from helpers import zipped
from test_significance import BLEND, HAP, SAD, TURNED, naive_figures, report_of, simulated

from blemore.labels import LABELS, to_entry
from blemore.rank_cli import main, name_files
from blemore.rank_page import rank_page, stability_svg
from blemore.rank_report import LeftOut, rank_to_latex
from blemore.ranking import RESAMPLES, Stability, System, rank
from blemore.significance import FIGURES, compare, holm, intervals

ROWS = [(actor, truth) for actor in "abcd" for truth in (HAP, SAD, BLEND, BLEND)]


def reports(**answers):
    """Reports on ROWS, by name. answers: those for the four clips of one actor, the same for every actor."""
    return {
        name: report_of([(*row, answer) for row, answer in zip(ROWS, 4 * list(four))]) for name, four in answers.items()
    }


# ----------------------------------------------------------------------------------- the order


def test_equal_scores_share_a_rank():
    """b and c: one single and one blend right, but different ones; a: nothing right; d: everything right."""
    ranking = rank(
        reports(a=(SAD, HAP, HAP, HAP), b=(HAP, HAP, BLEND, HAP), c=(SAD, SAD, HAP, BLEND), d=(HAP, SAD, BLEND, BLEND))
    )
    assert [(system.name, system.rank) for system in ranking.systems] == [("d", 1), ("b", 2), ("c", 2), ("a", 4)]
    assert ranking.leaders == ["d"] and [pair.first + pair.second for pair in ranking.pairs] == [
        "db",
        "dc",
        "da",
        "bc",
        "ba",
        "ca",
    ]


def test_two_can_be_first():
    ranking = rank(reports(z=(HAP, SAD, BLEND, HAP), y=(HAP, SAD, HAP, BLEND), x=(HAP, SAD, TURNED, TURNED)))
    assert [(system.name, system.rank) for system in ranking.systems] == [("y", 1), ("z", 1), ("x", 3)]
    assert ranking.leaders == ["y", "z"]
    assert [pair.first for pair in ranking.with_first("x")] == ["y", "z"] and not ranking.with_first("z")


def test_scores_are_compared_without_rounding():
    """Equal scores from unequal counts, whose floating-point sums may differ."""
    rows = [("a", BLEND), ("b", BLEND), ("c", BLEND), ("a", HAP), ("b", HAP), ("c", HAP)]
    first = report_of([(*row, answer) for row, answer in zip(rows, (BLEND, TURNED, SAD, HAP, SAD, SAD))])  # 3/6, 1/3
    second = report_of([(*row, answer) for row, answer in zip(rows, (BLEND, SAD, SAD, HAP, HAP, SAD))])  # 3/6, 1/3
    assert [system.rank for system in rank({"x": first, "y": second}).systems] == [1, 1]


def test_what_cannot_be_ranked_is_refused():
    with pytest.raises(ValueError, match="same labels"):
        rank({"a": simulated(), "b": simulated(clips=41)})
    with pytest.raises(ValueError, match="one report or more"):
        rank({})
    with pytest.raises(ValueError, match="no label is a blend"):
        rank({"a": report_of([("a", HAP, HAP)])})


# ----------------------------------------------------------------------------- pairs, stability

SYSTEMS = {f"s{k}": simulated(right=right, seed=k) for k, right in enumerate((0.2, 0.6, 0.25, 0.58, 0.05))}


def test_pairs_are_compared_as_by_the_scorer_and_corrected_over_all_pairs():
    ranking = rank(SYSTEMS)
    assert len(ranking.pairs) == 10
    for figure in FIGURES:
        p_values = []
        for pair in ranking.pairs:
            comparison = compare(SYSTEMS[pair.first], SYSTEMS[pair.second])
            difference = pair.comparison.differences[figure]
            assert difference.estimate == comparison.differences[figure].estimate
            assert (
                difference.sign_flip == comparison.differences[figure].sign_flip
                and pair.comparison.against == comparison.against
            )
            p_values.append(difference.estimate.p)
        assert [pair.comparison.differences[figure].p_holm for pair in ranking.pairs] == holm(p_values)
    assert [pair.apart for pair in ranking.pairs] == [pair.p_holm < 0.05 for pair in ranking.pairs]
    for system in ranking.systems:
        assert system.intervals == intervals(SYSTEMS[system.name]) and system.counts == SYSTEMS[system.name].counts


def test_systems_that_cannot_be_told_apart_from_the_first():
    ranking = rank({**SYSTEMS, "twin": SYSTEMS["s1"]})
    assert ranking.leaders == ["s1", "twin"] and ranking.not_told_from_first == ["s3"]
    assert next(pair for pair in ranking.pairs if pair.second == "twin").p_holm is None


def naive_ranks(table):
    """Ranks over resampled actors, whose clips are collected and scored again: (resamples, systems)."""
    sample = next(iter(table.values()))
    names = sorted(set(sample.groups.values()))
    clips = {name: [clip for clip in sample.labels if sample.groups[clip] == name] for name in names}
    rng, rows = random.Random(0), []
    while len(rows) < RESAMPLES:
        draw = rng.choices(range(len(names)), k=len(names))
        gathered = [clip for number in draw for clip in clips[names[number]]]
        if any(sample.labels[clip].is_blend for clip in gathered):
            scores = [naive_figures(report, gathered)["score"] for report in table.values()]
            rows.append([1 + sum(other > score + 1e-12 for other in scores) for score in scores])
    return np.array(rows)


@pytest.mark.parametrize("blends", [True, False], ids=["blends", "an actor with all blends"])
def test_stability_equals_that_of_scoring_resamples_again(blends):
    rng = random.Random(3)
    rows = [(actor, rng.choice((HAP, SAD, BLEND) if blends or actor == "a" else (HAP, SAD))) for actor in "abcde" * 4]
    answers = {name: [rng.choice((HAP, SAD, BLEND, truth, truth)) for _, truth in rows] for name in "pqrs"}
    table = {name: report_of([(*row, guess) for row, guess in zip(rows, guesses)]) for name, guesses in answers.items()}
    expected = naive_ranks(table)
    for system in rank(table).systems:
        ranks = expected[:, list(table).index(system.name)]
        stability = system.stability
        assert stability.ranks == tuple(Counter(ranks.tolist())[number] for number in (1, 2, 3, 4))
        assert (stability.low, stability.high) == tuple(np.quantile(ranks, [0.025, 0.975], method="inverted_cdf"))
        shares = (ranks == 1) / (expected == 1).sum(axis=1)
        assert stability.first == pytest.approx(shares.mean())


def test_shares_of_first_ranks_sum_to_one_even_with_twins():
    ranking = rank({**SYSTEMS, "twin": SYSTEMS["s1"]})
    assert sum(system.stability.first for system in ranking.systems) == pytest.approx(1)
    shares = {system.name: system.stability.first for system in ranking.systems}
    assert shares["twin"] == pytest.approx(shares["s1"])


def test_systems_far_apart_keep_their_ranks():
    ranking = rank({str(right): simulated(n_actors=11, clips=50, right=right) for right in (0.1, 0.4, 0.7, 0.95)})
    assert [system.name for system in ranking.systems] == ["0.95", "0.7", "0.4", "0.1"]
    assert [system.stability[:3] for system in ranking.systems] == [(1, 1, 1), (2, 2, 0), (3, 3, 0), (4, 4, 0)]
    assert all(pair.apart for pair in ranking.pairs) and ranking.not_told_from_first == []


def test_a_single_actor_gives_only_an_order():
    alone = {name: report._replace(groups=dict.fromkeys(report.labels, "A1")) for name, report in SYSTEMS.items()}
    ranking = rank(alone)
    assert {system.stability for system in ranking.systems} == {None} and ranking.resamples == 0
    assert not any(pair.apart for pair in ranking.pairs) and len(ranking.not_told_from_first) == 4
    assert "resamples:0|" in ranking.signature and "stable" not in rank_page(ranking, [])


def test_the_signature_depends_on_neither_names_nor_order():
    ranking = rank(SYSTEMS)
    assert rank({f"n{k}": report for k, report in enumerate(reversed(SYSTEMS.values()))}).signature == ranking.signature
    assert rank({**SYSTEMS, "s0": simulated(right=0.21)}).signature != ranking.signature
    assert "|method:jackknife-t|level:0.95|actors:8|p_holm:10 pairs a figure|resamples:2000|seed:0" in ranking.signature


# ---------------------------------------------------------------------------------- the command

CLIPS = [f"clip_{k:03}" for k in range(72)]
TRUTH = {clip: LABELS[k % 36] for k, clip in enumerate(CLIPS)}


def submission(right, seed=0):
    rng = random.Random(seed)
    answers = {clip: label if rng.random() < right else rng.choice(LABELS) for clip, label in TRUTH.items()}
    return {"predictions": {f"{clip}.mov": to_entry(label) for clip, label in answers.items()}}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Labels of six actors, and subs/ with four submissions, one in a subfolder and one zipped."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "subs" / "deep").mkdir(parents=True)
    groups = {clip: f"A{k // 12}" for k, clip in enumerate(CLIPS)}
    truth = {clip: to_entry(label) for clip, label in TRUTH.items()}
    (tmp_path / "labels.json").write_text(json.dumps({"labels": truth, "groups": groups}))
    for name, right in (("good", 0.9), ("deep/fair", 0.5), ("poor", 0.1)):
        (tmp_path / "subs" / f"{name}.json").write_text(json.dumps(submission(right)))
    (tmp_path / "subs" / "same.zip").write_bytes(zipped([("p.json", json.dumps(submission(0.9)))]))
    return tmp_path


def run(*arguments, code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert result.exit_code == code, result.output
    return result


def ranked(*arguments, code=0):
    return json.loads(run(*arguments, "--json", code=code).stdout)


def test_a_folder(folder):
    data = ranked("subs", "labels.json")
    assert [(system["name"], system["rank"]) for system in data["systems"]] == [
        ("good", 1),
        ("same", 1),
        ("fair", 3),
        ("poor", 4),
    ]
    assert [system["file"] for system in data["systems"]] == [
        "subs/good.json",
        "subs/same.zip",
        "subs/deep/fair.json",
        "subs/poor.json",
    ]
    assert data["first"] == ["good", "same"] and data["left_out"] == [] and len(data["pairs"]) == 6
    assert data["systems"][0]["preds"] == data["systems"][1]["preds"] and data["resamples"] == RESAMPLES
    pair = data["pairs"][0]
    assert pair["differences"]["score"]["reason"] == "no difference" and not pair["apart"]
    text = run("subs", "labels.json").stdout
    assert "First: good and same, which share the first rank." in text and data["signature"] in text
    assert "n/a: no difference" in text and text.count(" score  ") >= 6


def test_files_and_folders_are_each_taken_once(folder):
    files = ["subs/good.json", "subs", "subs/poor.json"]
    assert [system["name"] for system in ranked(*files, "labels.json")["systems"]] == ["good", "same", "fair", "poor"]


def test_labels_and_names_in_the_folder_are_not_submissions(folder):
    (folder / "labels.json").rename(folder / "subs" / "labels.json")
    assert len(ranked("subs", "subs/labels.json")["systems"]) == 4


def test_other_files_are_reported(folder):
    (folder / "subs" / "notes.txt").write_text("")
    (folder / "subs" / ".hidden.json").write_text("")
    (folder / "subs" / "__MACOSX").mkdir()
    (folder / "subs" / "__MACOSX" / "x.json").write_text("")
    result = run("subs", "labels.json")
    assert (
        "Ignored in subs, since the names end in neither .json nor .zip: notes.txt" in result.stderr
        and "MACOSX" not in result.stderr
    )


def test_invalid_ones_are_left_out_by_name_and_the_exit_code_is_1(folder):
    (folder / "subs" / "broken.json").write_text(json.dumps({"clip_000": to_entry(LABELS[0])}))
    (folder / "subs" / "cut.zip").write_bytes(b"PK\x03\x04")
    result = run("subs", "labels.json", "--html", "r.html", "--latex", "r.tex", code=1)
    assert "Left out, since they are invalid (2): broken, cut." in result.stdout and "good" in result.stdout
    assert (
        "subs/broken.json" in result.stderr
        and "71 of 72 clips are missing" in result.stderr
        and "not a readable zip" in result.stderr
    )
    assert "invalid: 2 of 6." in result.stderr
    data = ranked("subs", "labels.json", code=1)
    assert [(entry["name"], len(entry["problems"]) > 0) for entry in data["left_out"]] == [
        ("broken", True),
        ("cut", True),
    ]
    assert "Left out, since they are invalid: broken, cut." in (folder / "r.tex").read_text()
    assert "not a readable zip" in (folder / "r.html").read_text()


def test_without_a_valid_submission_there_is_no_ranking(folder):
    (folder / "bad").mkdir()
    for name in ("a", "b"):
        (folder / "bad" / f"{name}.json").write_text("[]")
    result = run("bad", "labels.json", "--csv", "r.csv", code=1)
    assert result.stdout == "" and "bad/a.json" in result.stderr and "bad/b.json" in result.stderr
    assert not (folder / "r.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["subs"], 2, "Missing argument"),
        (["subs", "subs"], 3, "The last argument must be the file with the labels"),
        (["nowhere.json", "gone.zip", "labels.json"], 3, "gone.zip"),
        (["deep", "labels.json"], 3, "deep"),
        (["subs", "singles.json"], 4, "no blend"),
        (["subs", "labels.json", "--fold", "0"], 2, "no fold 0"),
        (["empty", "labels.json"], 1, "no submission in it"),
        (["subs", "labels.json", "--csv", "r.txt"], 2, "ends in .csv"),
    ],
)
def test_mistakes(folder, arguments, code, words):
    (folder / "empty").mkdir()
    (folder / "singles.json").write_text(json.dumps({clip: to_entry(LABELS[0]) for clip in CLIPS}))
    result = run(*arguments, code=code)
    assert result.stdout == "" and words in result.stderr


def test_a_fold(folder):
    rows = ["filename,video_id,mix,emotion_1,emotion_2,emotion_1_salience,emotion_2_salience,fold"]
    for k, (clip, label) in enumerate(TRUTH.items()):
        emotions, saliences = (label.emotions + ("",))[:2], (label.saliences + ("",))[:2]
        rows.append(
            f"{clip},A{k // 12},{int(label.is_blend)},{','.join(emotions)},{saliences[0]},{saliences[1]},{k % 2}"
        )
    (folder / "train.csv").write_text("\n".join(rows))
    for name in ("good", "poor"):
        entries = json.loads((folder / "subs" / f"{name}.json").read_text())["predictions"]
        half = {clip: entry for k, (clip, entry) in enumerate(entries.items()) if k % 2 == 0}
        (folder / f"{name}.json").write_text(json.dumps(half))
    data = ranked("good.json", "poor.json", "train.csv", "--fold", "0")
    assert data["subset"] == "fold 0" and "|subset:fold 0|" in data["signature"] and data["n"] == 36
    assert "36 of 72 clips are missing" in run("good.json", "poor.json", "train.csv", code=1).stderr


# ------------------------------------------------------------------------------------------ names


def test_names_from_a_table(folder):
    (folder / "names.csv").write_text("file,name\ngood.json,The Good & Co\nsubs/deep/fair.json,<b>Fair</b>\n")
    data = ranked("subs", "labels.json", "--names", "names.csv")
    assert [system["name"] for system in data["systems"]] == ["The Good & Co", "same", "<b>Fair</b>", "poor"]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("file,name\ngod.json,x\n", "0 submissions are called god.json"),
        ("file,name\ngood.json,same\n", "same is also the name of"),
        ("file,name\ngood.json,x\npoor.json,x\n", "more than one row with the name x"),
        ("file,name\ngood.json,x\ngood.json,y\n", "more than one row with the file good.json"),
        ("file,name\ngood.json,\n", "a cell is empty"),
        ("file;name\ngood.json;x\n", "semicolons"),
        ("datei,name\ngood.json,x\n", "the columns file and name"),
        ("file,name\nsame.json,x\n", "2 submissions are called same.json"),
    ],
)
def test_wrong_names_are_refused(folder, table, words):
    (folder / "names.csv").write_text(table)
    if "2 submissions" in words:
        for place in ("subs", "subs/deep"):
            (folder / place / "same.json").write_text((folder / "subs" / "good.json").read_text())
    assert words in run("subs", "labels.json", "--names", "names.csv", code=1).stderr


def test_files_with_the_same_name_are_named_by_their_folders(tmp_path):
    paths = [
        tmp_path / name for name in ("a/submission.zip", "b/submission.zip", "b/other.json", "c/x.json", "c/x.zip")
    ]
    assert list(name_files(paths, {})) == ["a/submission", "b/submission", "other", "c/x.json", "c/x.zip"]


# ------------------------------------------------------------------------------------- the files


def test_csv_files(folder):
    run("subs", "labels.json", "--csv", "out/r.csv")
    data = ranked("subs", "labels.json")
    *rows, signature = csv.reader(io.StringIO((folder / "out" / "r.csv").read_text()))
    assert signature == [f"# {data['signature']}"] and [row[0] for row in rows[1:]] == ["good", "same", "fair", "poor"]
    assert [float(row[2]) for row in rows[1:]] == [system["score"] for system in data["systems"]]
    header, *pairs, _ = csv.reader(io.StringIO((folder / "out" / "r.pairs.csv").read_text()))
    assert len(pairs) == 18 and header[:4] == ["first", "second", "figure", "difference"]
    by_pair = {(first, second, figure): rest for first, second, figure, *rest in pairs}
    score = data["pairs"][1]["differences"]["score"]
    assert list(map(float, by_pair["good", "fair", "score"][:-1])) == pytest.approx(
        [score["delta"], *score["interval"], score["p"], score["p_holm"], score["sign_flip"]["p"]]
    )
    assert by_pair["good", "same", "score"][1:] == ["", "", "", "", "", "n/a: no difference"]


def test_latex(folder):
    (folder / "names.csv").write_text("file,name\ngood.json,a_b & 50% {x}\n")
    run("subs", "labels.json", "--names", "names.csv", "--latex", "r.tex")
    text = (folder / "r.tex").read_text()
    assert r"a\_b \& 50\% \{x\} & 1 & " in text and r"\label{tab:ranking}" in text and r"\toprule" in text
    header = r"system & rank & score & 95 \% interval & ACC\_presence & ACC\_salience & rank 95 \% interval & share"
    assert header in text and text.count("tabular") == 2
    assert len({line.count(" & ") for line in text.splitlines() if line.endswith(r" \\")}) == 1


HOSTILE = "<script>alert(1)</script>\x1b[31m & \"'"


def test_the_page_loads_nothing_and_escapes_names():
    table = {**SYSTEMS, HOSTILE: SYSTEMS["s0"]}
    text = rank_page(rank(table), [LeftOut(HOSTILE, "x", [])])
    assert "default-src 'none'" in text and "\x1b" not in text
    assert not [part for part in ("<script", "src=", "href=", "url(", "@import", "http:", "https:") if part in text]
    assert html.escape("<script>alert(1)</script>") in text
    tags = re.findall(r"</?(\w+)", text)
    for tag in ("table", "tr", "td", "th", "div", "svg", "g", "details", "ul", "ol", "li", "p"):
        assert len(re.findall(rf"<{tag}[ >]", text)) == text.count(f"</{tag}>"), tag
    assert "svg" in tags and rank_to_latex(rank(table), []).isprintable() is False  # only because of its lines
    assert "\x1b" not in rank_to_latex(rank(table), [])


def test_the_drawing_shows_the_ranks():
    """Two systems; one is first in three of four resamples."""
    ranking = rank({name: SYSTEMS[name] for name in ("s1", "s3")})
    systems = [
        System("one", 1, *ranking.systems[0][2:5], Stability(1, 2, 0.75, (1500, 500))),
        System("the other <b>", 2, *ranking.systems[1][2:5], Stability(1, 2, 0.25, (500, 1500))),
    ]
    root = ElementTree.fromstring(stability_svg(systems))
    groups = root.findall("g")
    assert [group.find("text").text for group in groups] == ["one", "the other <b>"]
    dots = [[float(dot.get("r")) for dot in group.findall("circle[@class='share']")] for group in groups]
    assert dots[0][0] ** 2 / dots[0][1] ** 2 == pytest.approx(3, rel=0.01) and dots[0] == dots[1][::-1]
    own = [float(group.find("circle[@class='own']").get("cx")) for group in groups]
    lines = [group.find("line") for group in groups]
    assert [(float(line.get("x1")), float(line.get("x2"))) for line in lines] == [tuple(own)] * 2


@pytest.mark.parametrize("systems", [2, 3, 16, 17, 50, 120])
def test_drawings_of_any_size_have_legible_axes(systems):
    system = rank({"s1": SYSTEMS["s1"], "s3": SYSTEMS["s3"]}).systems[0]
    stability = Stability(1, systems, 1.0, (RESAMPLES, *[0] * (systems - 1)))
    drawing = stability_svg([system._replace(rank=k + 1, stability=stability) for k in range(systems)])
    ticks = [int(tick.text) for tick in ElementTree.fromstring(drawing).findall("text")]
    assert ticks[0] == 1 and ticks[-1] == systems and len(ticks) <= 18
    assert ticks == sorted(ticks) and all(b - a >= 0.02 * systems for a, b in zip(ticks, ticks[1:]))
