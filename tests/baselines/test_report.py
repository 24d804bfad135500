"""The report of a run: self-contained, with tables as files and failures measured; and errors for incomplete runs."""

import csv
import html
import json
import re
import shlex
from html.parser import HTMLParser

import numpy as np
import pytest
from cases import small_picture
from click.testing import CliRunner

from blemore.errors import FileError, ValidationError
from blemore.evaluate import evaluate
from blemore.labels import LABELS, to_entry
from blemore.tables import Table
from blemore_baselines.cli import main
from blemore_baselines.models.recipes import PRESETS, Recipe
from blemore_baselines.results import report, study_files
from blemore_baselines.results.run import read_run
from blemore_baselines.results.text import METRICS
from blemore_baselines.sources.npz import npz_bytes
from blemore_baselines.train import train


@pytest.fixture
def run(tiny, quick, tmp_path):
    """A finished run on `tiny.sound`."""
    folder = tmp_path / "run"
    train(
        tiny.dataset,
        [tiny.read(tiny.sound)],
        [tiny.sound],
        method="aggregate",
        head="linear",
        preset="published",
        seed=0,
        out=folder,
        metadata=tiny.train,
    )
    return folder


@pytest.fixture
def scored():
    """A submission in which every label is another one."""
    truth = {f"test_{k:04}": to_entry(LABELS[k]) for k in range(36)}
    return evaluate({clip: to_entry(LABELS[(k + 1) % 36]) for k, clip in enumerate(truth)}, truth)


def rows(path):
    *body, signature = csv.reader(path.read_text().splitlines())
    return body, signature[0]


class Tags(HTMLParser):
    """Every tag with its attributes, and whether what is opened is closed in order."""

    def __init__(self):
        super().__init__()
        self.tags, self.open = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "wbr", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_loads_nothing(run, tiny):
    text = report.write_report(run, features=[tiny.sound]).read_text()
    assert {path.read_bytes()[:4] for path in run.glob("figures/*")} == {b"\x89PNG", b"%PDF"}
    page = Tags()
    page.feed(text)
    assert not page.open and not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert all(attributes["src"].startswith("data:image/png;base64,") for tag, attributes in page.tags if tag == "img")
    assert all(
        key == "src" or "://" not in (value or "") for _, attributes in page.tags for key, value in attributes.items()
    )
    assert not re.search(r"url\(|@import|https?:", text)
    assert "default-src 'none'" in text and "prefers-color-scheme: dark" in text


@pytest.mark.usefixtures("undrawn")
def test_each_table_and_figure_is_a_file_with_the_same_content_every_time(run, tiny):
    first, second = (
        {
            path.relative_to(run): path.read_bytes()
            for path in (report.write_report(run, features=[tiny.sound]), *run.glob("tables/*"), *run.glob("figures/*"))
        }
        for _ in range(2)
    )
    assert first == second
    names = sorted(str(path) for path in first)
    tables = (
        "failure_optimism",
        "failure_relation",
        "failure_relation_chance",
        "folds_nested",
        "folds_published",
        "labels",
        "results",
        "stability",
    )
    figures = ("components_1_sound", "confusion", "learning_curves", "results", "threshold_map", "threshold_spread")
    assert names == sorted(
        [
            "report.html",
            *(f"tables/{name}.{form}" for name in tables for form in ("csv", "tex")),
            *(f"figures/{name}.{form}" for name in figures for form in ("png", "pdf")),
        ]
    )
    config = json.loads((run / "config.json").read_text())
    signature = next(iter({rows(run / "tables" / f"{name}.csv")[1] for name in tables}))
    for part in (
        config["train"]["digest"],
        config["features"][0]["digest"],
        "seed:0",
        f"version:{config['versions']['blemore']}",
    ):
        assert (
            part in signature and part.replace("|", "") in first[next(p for p in first if p.suffix == ".tex")].decode()
        )


@pytest.mark.usefixtures("undrawn")
def test_csv_holds_the_unrounded_figures_of_the_run(run):
    report.write_report(run)
    metrics = json.loads((run / "metrics.json").read_text())
    (_, *body), _ = rows(run / "tables" / "results.csv")
    for (_name, nested, low, high, published, std, constant), metric in zip(body, METRICS, strict=True):
        over = metrics["published"]["over_folds"][metric]
        assert (float(nested), float(published), float(std)) == (metrics["nested"][metric], over["mean"], over["std"])
        assert 0 <= float(constant) <= 1
        if low:
            assert float(low) <= float(nested) <= float(high)
        else:  # all actors alike
            assert float(nested) in (0, 1)
    (header, *body), _ = rows(run / "tables" / "folds_nested.csv")
    for row, fold in zip(body, metrics["nested"]["folds"]):
        assert [float(cell) for cell in row] == [
            float(fold[name]) for name in ("fold", "epoch", "alpha", "beta", *METRICS)
        ]


@pytest.mark.usefixtures("undrawn")
def test_failures_agree_with_the_accounts(run):
    text = report.write_report(run).read_text()
    config, metrics = (json.loads((run / f"{name}.json").read_text()) for name in ("config", "metrics"))
    (_, *gaps), _ = rows(run / "tables" / "failure_optimism.csv")
    for (_, published, nested, gap, *_), metric in zip(gaps, METRICS, strict=True):
        assert float(nested) == metrics["nested"][metric] and float(gap) == pytest.approx(
            float(published) - float(nested)
        )
    (_, *relations), _ = rows(run / "tables" / "failure_relation.csv")
    _, blends, right_set, wrong, *_ = relations[-1]
    assert (int(right_set) - int(wrong)) / int(blends) == pytest.approx(metrics["nested"]["acc_salience"])
    (_, *labels), _ = rows(run / "tables" / "labels.csv")
    assert len(labels) == 36 and sum(int(row[3]) for row in labels) / 36 == pytest.approx(
        metrics["nested"]["acc_presence"]
    )
    features = config["features"][0]["path"]
    assert (
        f'<pre class="command">blemore-baselines analyse identity --metadata {config["train"]["path"]}'
        f" --features {features} --preset published --head linear --out {run / 'analysis'}</pre>" in text
    )
    assert f'<pre class="command">blemore-baselines report {run} --features {features}</pre>' in text
    (_, (_, gained, *_)), _ = rows(run / "tables" / "failure_relation_chance.csv")
    assert int(gained) == int(relations[-1][6]) - int(relations[-1][7])


TABLES = {
    "folds": Table(
        "Folds, told",
        ["figure", "n", "value", ""],
        [["score", 3, 0.1 + 0.2, None], ["0.1 to 0.5", -1, 1e-9, 'a, "b" <c>']],
    ),
    "more": Table("More", ["actor"], [["0"], ["007"], ["1_0"], ["nan"]]),
}


def write_study(run, folder, name="identity", **other):
    """A study of this run, as `analyse` would write it; other: fields of its signature that differ."""
    config = json.loads((run / "config.json").read_text())
    fields = {
        "study": name,
        "clips": 36,
        "train": config["train"]["digest"],
        "features": config["features"][0]["digest"],
        "head": "linear",
        "preset": "published",
        "recipe": Recipe(**config["recipe"]).digest,
        "seed": 0,
        "version": "0",
    } | other
    signature = "|".join(f"{key}:{value}" for key, value in fields.items())
    study_files.write(
        study_files.Study(
            name,
            f"What {name} is",
            TABLES,
            {"gap": small_picture()},
            ["Shared actors gain +0.012 <b>."],
            {},
            signature,
        ),
        folder,
    )
    return signature


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("elsewhere", [False, True])
def test_studies_are_complete_with_their_own_signatures(run, tmp_path, elsewhere):
    folder = tmp_path / "elsewhere" if elsewhere else run / "analysis"
    signatures = {
        name: write_study(run, folder, name, **other)
        for name, other in (("identity", {}), ("thresholds", {"features": "another", "head": "another"}))
    }
    page = report.write_report(run, analysis=folder if elsewhere else None).read_text()
    assert "Shared actors gain +0.012 &lt;b&gt;." in page and "Not measured" not in page
    assert (
        page.index("Failure 3: actor-inclusive")
        < page.index("Folds and learning curves")
        < page.index("Study: What thresholds is")
    )
    for name, signature in signatures.items():
        assert signature.replace("|", "|<wbr>") in page
        for file in (f"{name}_folds", f"{name}_more"):
            for form in ("csv", "tex"):
                assert (run / "tables" / f"{file}.{form}").read_bytes() == (folder / f"{file}.{form}").read_bytes()
        for form in ("png", "pdf"):
            copy, original = (run / "figures" / f"{name}_gap.{form}", folder / f"{name}_gap.{form}")
            assert copy.read_bytes() == original.read_bytes() and original.read_bytes().count(signature.encode()) == 1
    assert "study:" not in (run / "tables" / "results.csv").read_text()


@pytest.mark.usefixtures("undrawn")
def test_commands_on_the_page_can_be_run(run, quick, monkeypatch):
    """Exactly as shown: a browser copies the text of `pre`."""
    monkeypatch.setitem(PRESETS, "published", quick)
    text = report.write_report(run).read_text()
    calls = [html.unescape(call) for call in re.findall('<pre class="command">(.*?)</pre>', text)]
    assert [shlex.split(call)[1:3] for call in calls] == [["analyse", "identity"], ["report", str(run)]]
    for call in calls:
        result = CliRunner().invoke(main, shlex.split(call)[1:])
        assert result.exit_code == 0, result.output
    text = report.write_report(run).read_text()
    assert "Not measured yet" not in text and (run / "analysis" / "identity.json").exists()


@pytest.mark.usefixtures("undrawn")
def test_what_scrolls_sideways_is_marked(run, scored):
    """By a shadow that stays at the edge, under a cover that scrolls with the content and hides it at the end."""
    text = report.write_report(run, scored).read_text()
    [rule] = re.findall(r"\.wide, pre \{ background:([^}]*) \}(?!\s*\*)", text)
    layers = re.split(r",\s+(?=linear-gradient)", rule)
    assert ["local" in layer for layer in layers] == [True, True, False, False]
    assert '<div class="wide">' in text and "<pre>" in text


@pytest.mark.usefixtures("undrawn")
def test_a_run_that_did_not_note_its_metadata(run):
    """As in versions up to 0.2.0."""
    config = json.loads((run / "config.json").read_text())
    del config["train"]["path"]
    (run / "config.json").write_text(json.dumps(config))
    text = report.write_report(run).read_text()
    assert "run blemore-baselines analyse identity with the metadata and features given to train" in text
    assert "CSV" not in re.sub("as CSV|CSV \\(unrounded\\)", "", text) and "--metadata" not in text
    write_study(run, run / "analysis", train="t2")
    with pytest.raises(ValidationError, match="analyse identity, with the metadata and features given to train"):
        report.write_report(run)


@pytest.mark.usefixtures("undrawn")
def test_a_study_of_another_run_is_refused(run):
    with pytest.raises(ValidationError) as error:
        others = {"train": "t2", "features": "f2+f3", "head": "mlp256", "recipe": "r2"}
        write_study(run, run / "analysis", **others)
        write_study(run, run / "analysis", "thresholds", **others)
        report.write_report(run)
    assert {problem.code for problem in error.value.problems} == {"other-study"} and not (run / "report.html").exists()
    (train, features, head, recipe), (thresholds,) = (
        [str(problem) for problem in error.value.problems if problem.where.endswith(f"{name}.json")]
        for name in ("identity", "thresholds")
    )
    config = json.loads((run / "config.json").read_text())
    for text, study_value, run_value in (
        (train, "t2", config["train"]["digest"]),
        (features, "f2+f3", config["features"][0]["digest"]),
        (head, "mlp256", "linear"),
        (thresholds, "t2", config["train"]["digest"]),
    ):
        assert f'"{study_value}"; expected "{run_value}"' in text
    assert "recipe" in recipe and all(
        f"blemore-baselines analyse identity --metadata {config['train']['path']} --features" in text
        for text in (train, features, head, recipe)
    )
    assert "blemore-baselines analyse thresholds" in thresholds


@pytest.mark.usefixtures("undrawn")
def test_a_run_that_subsamples_has_no_study_of_identity(run):
    write_study(run, run / "analysis")
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "method": "subsample"}))
    with pytest.raises(ValidationError, match="aggregated"):
        report.write_report(run)
    (run / "analysis" / "identity.json").unlink()
    assert "requires aggregated features" in report.write_report(run).read_text()


def damaged(run, change):
    """The message about a study after a change to its folder."""
    folder = run / "analysis"
    write_study(run, folder)
    change(folder)
    with pytest.raises((ValidationError, FileError)) as error:
        report.write_report(run)
    assert not (run / "report.html").exists()
    return str(error.value)


def rewritten(run, file, content):
    """The message about a study with other text, bytes or JSON in one of its files."""
    raw = (
        content
        if isinstance(content, bytes)
        else (content if isinstance(content, str) else json.dumps(content)).encode()
    )
    return damaged(run, lambda folder: (folder / file).write_bytes(raw))


def without(run, *files):
    """The message about a study without some of its files."""
    return damaged(run, lambda folder: [(folder / file).unlink() for file in files])


def test_a_damaged_study_is_explained(run):
    content = {"study": "identity", "title": "t", "findings": [], "signature": "s", "tables": {}, "figures": []}
    for key in content:
        for other in ({name: value for name, value in content.items() if name != key}, {**content, key: 1}):
            assert f"no {key}" in rewritten(run, "identity.json", other)
    for text in ("[]", "null", '"identity"', "{", ""):
        assert "identity.json" in rewritten(run, "identity.json", text)
    assert '"fusion"' in rewritten(run, "identity.json", {**content, "study": "fusion"})
    assert "any table is missing" in rewritten(run, "identity.json", content)


def test_a_study_from_an_older_version_must_be_written_again(run):
    content = {"study": "identity", "title": "t", "findings": [], "signature": "s", "seeds": [0]}
    text = rewritten(run, "identity.json", content)
    assert "holds no tables and no figures" in text and "written by an earlier version?" in text
    assert f"Write the study again: blemore-baselines analyse … --out {run / 'analysis'}" in text


@pytest.mark.parametrize(
    "file",
    [
        "identity_folds.csv",
        "identity_folds.tex",
        "identity_more.csv",
        "identity_more.tex",
        "identity_gap.png",
        "identity_gap.pdf",
    ],
)
def test_a_file_of_a_study_that_is_missing_is_named(run, file):
    assert f"{file} is missing in the same folder" in without(run, file)


def test_all_missing_files_of_a_study_are_named_at_once(run):
    files = [
        "identity_folds.csv",
        "identity_folds.tex",
        "identity_more.csv",
        "identity_more.tex",
        "identity_gap.png",
        "identity_gap.pdf",
    ]
    assert f"{', '.join(files)} is missing in the same folder" in without(run, *files)


def test_a_table_of_another_study_is_refused(run):
    write_study(run, run / "analysis")
    whole = (run / "analysis" / "identity_folds.csv").read_text()
    signature = whole.splitlines()[-1]
    for text in (
        "",
        "\n",
        "# s\n",
        signature,
        whole.replace(signature, "# study:identity|of:another"),
        whole.removesuffix(f"{signature}\n"),
        f"a,b\n1\n{signature}\n",
        f'a\n"1\n{signature}\n',
        b"\xff\xfe" + whole.encode(),
    ):
        assert "identity_folds.csv" in rewritten(run, "identity_folds.csv", text), text


def test_tables_in_a_study_s_json_are_checked(run):
    write_study(run, run / "analysis")
    content = json.loads((run / "analysis" / "identity.json").read_text())
    table = content["tables"]["folds"]
    for other in (
        [],
        {},
        {**table, "more": 1},
        {**table, "title": 1},
        {**table, "columns": "abcd"},
        {**table, "columns": [1, 2, 3, 4]},
        {**table, "rows": None},
        {**table, "rows": ["abcd"]},
        {**table, "rows": [["score", 3, 0.1]]},
        {**table, "rows": [["score", 3, 0.1, []]]},
    ):
        changed = {**content, "tables": {"folds": other}}
        assert "identity.json: holds no complete table folds" in rewritten(run, "identity.json", changed)
    changed = {**content, "tables": {"folds": {**table, "rows": [*table["rows"], ["score", 3, 0.3, None]]}}}
    assert "identity_folds.csv: differs from the table in identity.json" in rewritten(run, "identity.json", changed)
    for changed in (
        {**content, "figures": ["../gap"]},
        {**content, "figures": [1]},
        {**content, "tables": {"": table}},
    ):
        assert "names a table or a figure" in rewritten(run, "identity.json", changed)


def test_a_torn_figure_of_a_study_is_refused(run):
    write_study(run, run / "analysis")
    picture = (run / "analysis" / "identity_gap.png").read_bytes()
    for png in (b"", picture[:-5], b"GIF89a"):
        assert "not a complete PNG" in rewritten(run, "identity_gap.png", png)
    page = small_picture().pdf
    for pdf in (b"", page[: len(page) // 2], picture):
        assert "not a complete PDF" in rewritten(run, "identity_gap.pdf", pdf)


@pytest.mark.usefixtures("undrawn")
def test_edited_latex_is_accepted(run):
    write_study(run, run / "analysis")
    latex = (run / "analysis" / "identity_folds.tex").read_text()
    (run / "analysis" / "identity_folds.tex").write_text("% for the paper\n" + latex)
    report.write_report(run)
    assert (run / "tables" / "identity_folds.tex").read_text() == latex


def test_all_damaged_studies_are_reported_at_once(run):
    write_study(run, run / "analysis", "thresholds", train="other")
    assert {"identity.json", "thresholds.json"} <= set(
        re.findall(r"[a-z]+[.]json", rewritten(run, "identity.json", "{}"))
    )


def test_a_missing_folder_of_studies_is_named(run, tmp_path):
    with pytest.raises(FileError, match="nowhere: no such folder"):
        report.write_report(run, analysis=tmp_path / "nowhere")


@pytest.mark.usefixtures("undrawn")
def test_the_paper_s_row_is_shown_for_a_run_on_its_features(run):
    config = json.loads((run / "config.json").read_text())
    config["features"] = [{**config["features"][0], "encoder": name} for name in ("WavLM_large", "imagebind")]
    config["head"] = "mlp512"
    (run / "config.json").write_text(json.dumps(config))
    report.write_report(run)
    (header, presence, salience, score), _ = rows(run / "tables" / "results.csv")
    columns = slice(header.index("the paper"), header.index("the paper") + 2)
    assert (presence[columns], salience[columns], score[columns]) == (["0.345", "0.035"], ["0.17", "0.055"], ["", ""])


@pytest.mark.usefixtures("undrawn")
def test_a_submission_s_own_section(run, scored):
    assert (
        "The submission&#x27;s score" in report.write_report(run, scored).read_text()
        and (run / "figures" / "submission_confusion.png").exists()
    )


@pytest.mark.usefixtures("undrawn")
def test_a_run_on_the_demo_says_so_on_top(run, monkeypatch):
    assert report.ON_DEMO not in report.write_report(run).read_text()
    calls = []
    monkeypatch.setattr(report, "is_demo", lambda ids: calls.append(ids) or True)
    page = report.write_report(run).read_text()
    assert calls == [read_run(run).dataset.ids]
    assert page.index("<h1>") < page.index(report.ON_DEMO) < page.index('<div class="figures">')


@pytest.mark.usefixtures("undrawn")
def test_names_from_files_are_escaped(run):
    config = json.loads((run / "config.json").read_text())
    config["features"][0]["encoder"] = "<script>alert(1)</script>"
    (run / "config.json").write_text(json.dumps(config))
    text = report.write_report(run).read_text()
    assert "<script" not in text and "&lt;script&gt;" in text


@pytest.mark.usefixtures("undrawn", "quick")
def test_two_features_of_one_encoder(tiny, tmp_path):
    sources = [tiny.read(tiny.sound), tiny.read(tiny.sound)]
    train(
        tiny.dataset,
        sources,
        [tiny.sound] * 2,
        method="aggregate",
        head="linear",
        preset="published",
        seed=0,
        out=tmp_path / "run",
    )
    report.write_report(tmp_path / "run", features=[tiny.sound] * 2)
    assert {path.name for path in tmp_path.glob("run/figures/components*")} == {
        f"components_{number}_sound.{form}" for number in (1, 2) for form in ("png", "pdf")
    }


@pytest.mark.usefixtures("quick")
def test_a_run_without_blends(tiny, tmp_path):
    singles = tiny.dataset._replace(labels=np.arange(36) % 6)
    train(
        singles,
        [tiny.read(tiny.sound)],
        [tiny.sound],
        method="aggregate",
        head="linear",
        preset="published",
        seed=0,
        out=tmp_path / "run",
    )
    assert "no interval" in report.write_report(tmp_path / "run", features=[tiny.sound]).read_text()
    (_, _, salience, score), _ = rows(tmp_path / "run" / "tables" / "results.csv")
    assert not any(salience[1:]) and not any(score[1:])


# ---------------------------------------------------------------------------------- mistakes


NEEDED = ("config.json", "learning_curves.csv", "labels.csv", "oof_logits.npz", "metrics.json")


def test_a_missing_file_is_named_with_the_command_that_writes_it(run):
    for name in NEEDED:
        content = (run / name).read_bytes()
        (run / name).unlink()
        with pytest.raises(FileError, match="blemore-baselines train|same `train` command") as error:
            report.write_report(run)
        assert (name if name != "metrics.json" else "holds an unfinished run") in str(error.value) and not (
            run / "report.html"
        ).exists()
        (run / name).write_bytes(content)


def test_a_damaged_file_is_refused(run):
    for name in NEEDED:
        content = (run / name).read_bytes()
        for other in (b"", b"\x00\xff\x80 not what it was", b"PK\x03\x04 torn", content[:100]):
            (run / name).write_bytes(other)
            with pytest.raises(ValidationError):
                report.write_report(run)
        (run / name).write_bytes(content)


def test_a_config_or_metrics_without_a_key_are_explained(run):
    for name, keys in (
        ("config.json", ("features", "train", "recipe", "head", "versions")),
        ("metrics.json", ("nested",)),
    ):
        content = json.loads((run / name).read_text())
        for key in keys:
            (run / name).write_text(json.dumps({field: value for field, value in content.items() if field != key}))
            with pytest.raises(ValidationError, match=f"damaged.*{key}"):
                report.write_report(run)
        (run / name).write_text(json.dumps(content))


def test_a_folder_of_reproduce_is_referred_to_its_own_results(tmp_path):
    (tmp_path / "row").mkdir()
    for name in ("config.json", "results.txt", "row/config.json", "row/figures.json"):
        (tmp_path / name).write_text("{}")
    for folder in (tmp_path, tmp_path / "row"):
        with pytest.raises(FileError) as error:
            report.write_report(folder)
        assert f"{tmp_path / 'results.txt'} and results.png" in str(error.value) and "unfinished" not in str(
            error.value
        )
    (tmp_path / "row" / "figures.json").unlink()
    with pytest.raises(FileError, match="holds an unfinished run"):  # whatever lies above it
        report.write_report(tmp_path / "row")
    with pytest.raises(FileError, match="blemore-baselines train"):
        report.write_report(tmp_path / "nowhere")


def test_files_of_several_runs_are_refused(run):
    with np.load(run / "oof_logits.npz") as stored:
        arrays = dict(stored)
    (run / "oof_logits.npz").write_bytes(npz_bytes(**{**arrays, "logits": -arrays["logits"]}))
    with pytest.raises(ValidationError, match="nested score"):
        report.write_report(run)
    (run / "oof_logits.npz").write_bytes(npz_bytes(**{**arrays, "filenames": np.char.add("x", arrays["filenames"])}))
    with pytest.raises(ValidationError, match="different clips"):
        report.write_report(run)


@pytest.mark.usefixtures("undrawn")
def test_clips_are_paired_by_id(run):
    text = report.write_report(run).read_text()
    header, *lines = (run / "labels.csv").read_text().splitlines()
    with np.load(run / "oof_logits.npz") as stored:
        turned = {
            "logits": stored["logits"][:, ::-1],
            "filenames": stored["filenames"][::-1],
            "folds": stored["folds"][::-1],
        }
    (run / "oof_logits.npz").write_bytes(npz_bytes(**turned))
    assert report.write_report(run).read_text() == text


@pytest.mark.usefixtures("undrawn")
def test_other_features_are_refused(run, tiny):
    for others in ([tiny.look], [tiny.sound, tiny.look]):
        with pytest.raises(ValidationError, match="digest"):
            report.write_report(run, features=others)


@pytest.mark.usefixtures("undrawn")
def test_the_command_says_where_the_page_is(run, tiny):
    result = CliRunner().invoke(main, ["report", str(run), "--features", str(tiny.sound)])
    assert (result.exit_code, result.stdout) == (0, f"{run / 'report.html'}\n")
    assert "To see principal components, give" not in (run / "report.html").read_text()


def test_ids_and_actors_of_any_spelling_are_read_back(tiny, tmp_path):
    """A comma within an id, and an actor called NA."""
    ids = [f"take {number}, second" for number in range(len(tiny.dataset.ids))]
    dataset = tiny.dataset._replace(ids=ids, actors=["NA" if fold == 0 else f"A{fold}" for fold in tiny.dataset.folds])
    features = tiny.read(tiny.sound)._replace(ids=ids)
    train(
        dataset,
        [features],
        [tmp_path],
        method="aggregate",
        head="linear",
        preset="published",
        seed=0,
        out=tmp_path / "run",
    )
    result = read_run(tmp_path / "run").dataset
    assert (
        (result.ids, result.actors) == (ids, dataset.actors)
        and (result.labels == dataset.labels).all()
        and (result.folds == dataset.folds).all()
    )


def test_a_run_of_several_seeds(tiny, quick, tmp_path, undrawn):
    options = {"method": "aggregate", "head": "linear", "preset": "published"}
    train(tiny.dataset, [tiny.read(tiny.sound)], [tiny.sound], seed=[0, 1], out=tmp_path / "run", **options)
    page = report.write_report(tmp_path / "run", features=[tiny.sound]).read_text()
    assert "<h2>Seeds</h2>" in page and "seeds 0, 1, 36 clips" in page and "seed:0, 1" in page
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    table, _ = rows(tmp_path / "run" / "tables" / "seeds_thresholds.csv")
    assert [row[0] for row in table[1:]] == ["0", "1", "mean over seeds", "standard deviation", "all seeds together"]
    assert float(table[3][3]) == metrics["seeds"]["thresholds"]["over_seeds"]["score"]["mean"]
    assert float(table[5][3]) == metrics["nested"]["score"]
    assert "epoch 1" not in page and "learning curves" not in page  # which each seed's own page has
    report.write_report(tmp_path / "run" / "seed_1")
