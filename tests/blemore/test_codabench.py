"""The platform's interface: which file is scored, which labels count, what is written, and what is never revealed."""

import ast
import hashlib
import html
import json
import os
import random
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import entry, mapping

from blemore import codabench, page, significance
from blemore.codabench import SCORE_KEYS, main
from blemore.errors import Problem, ValidationError
from blemore.evaluate import SETS, detections, evaluate, relation_confusion, set_confusion
from blemore.labels import EMOTIONS, LABELS, to_entry

ROOT = Path(__file__).resolve().parents[2]
TRUTH = mapping(
    {"test_0001": "ang 70 hap 30", "test_0002": "sad 100", "test_0003": "fea 50 sad 50", "test_0004": "neu 100"}
)
PREDICTED = {
    "predictions": mapping(
        {
            "test_0001.mov": "hap 40 ang 60",
            "test_0002.mov": "sad 100",
            "test_0003.mov": "fea 70 sad 30",
            "test_0004.mov": "sad 100",
        }
    )
}
GROUPS = {"test_0001": "A1", "test_0002": "A1", "test_0003": "A2", "test_0004": "A2"}
SCORES = {"score": 0.625, "acc_presence": 0.75, "acc_salience": 0.5}  # 3 of 4 sets; 1 of 2 relations


class Platform:
    """The folders that the worker creates."""

    def __init__(self, root):
        self.root, self.res, self.ref, self.out = root, root / "input/res", root / "input/ref", root / "output"
        for folder in (self.res, self.ref, self.out):
            folder.mkdir(parents=True)
        (self.res / "metadata").write_text("exitCode: 0\n")
        self.labels({"labels": TRUTH, "groups": GROUPS})
        self.submit(json.dumps(PREDICTED))

    def labels(self, data):
        (self.ref / "labels.json").write_text(data if isinstance(data, str) else json.dumps(data))

    def settings(self, **settings):
        (self.ref / "settings.json").write_text(json.dumps(settings))

    def submit(self, text, name="s.json"):
        (self.res / name).parent.mkdir(parents=True, exist_ok=True)
        (self.res / name).write_bytes(text if isinstance(text, bytes) else text.encode())

    def run(self, *options):
        return main(
            [
                "--input",
                str(self.root / "input"),
                "--output",
                str(self.out),
                "--worker-labels",
                str(self.root / "worker.json"),
                *options,
            ]
        )

    def scores(self):
        path = self.out / "scores.json"
        return json.loads(path.read_text()) if path.exists() else None

    def page(self):
        return (self.out / "detailed_results.html").read_text()


@pytest.fixture
def platform(tmp_path):
    return Platform(tmp_path)


# ----------------------------------------------------------------------------------- what is scored


def test_exactly_the_leaderboards_keys(platform, capsys):
    assert platform.run() == 0
    assert platform.scores() == SCORES and tuple(platform.scores()) == SCORE_KEYS
    assert sorted(os.listdir(platform.out)) == ["detailed_results.html", "scores.json"]
    streams = capsys.readouterr()
    assert "0.6250" in streams.out and streams.err == ""


@pytest.mark.parametrize("name", ["s.json", "a/s.JSON", "a/b/s.json", "ünï.json"])
def test_the_only_json_is_found_in_any_folder(platform, name):
    (platform.res / "s.json").unlink()
    platform.submit(json.dumps(PREDICTED), name)
    platform.submit("{}", "__MACOSX/._s.json")
    platform.submit("{}", ".hidden.json")
    platform.submit("{}", "a/b/c/too_deep.json")
    assert platform.run() == 0 and platform.scores() == SCORES


@pytest.mark.parametrize(
    "prepare, code",
    [
        (lambda p: (p.res / "s.json").unlink(), 1),
        (lambda p: p.submit("{}", "other.json"), 1),
        (lambda p: p.submit("{"), 1),
        (lambda p: p.submit('{"predictions": {"test_0001": []}}'), 1),
        (lambda p: p.submit(json.dumps({"labels": TRUTH})), 1),
        (lambda p: ((p.res / "s.json").unlink(), (p.res / "s.json").symlink_to(p.ref / "labels.json")), 1),
        (lambda p: ((p.res / "s.json").unlink(), os.mkfifo(p.res / "s.json")), 1),
        (lambda p: ((p.res / "s.json").unlink(), (p.res / "deep").symlink_to(p.ref)), 1),
        (lambda p: ((p.res / "s.json").unlink(), (p.res / "metadata").unlink(), p.res.rmdir()), 3),
        (lambda p: p.labels({"labels": {}}), 4),
        (lambda p: p.labels("{"), 4),
        (lambda p: p.labels({"labels": {**TRUTH, "test_0009": entry("ang 60 hap 40")}}), 4),
        (lambda p: p.labels(mapping({"test_0001": "sad 100"})), 4),  # no blend
        (lambda p: (p.ref / "labels.json").unlink(), 4),
        (lambda p: (p.submit("{"), p.labels("{")), 4),  # wrong labels come first
        (lambda p: p.settings(report="everything"), 4),
        (lambda p: p.settings(reports="full"), 4),
        (lambda p: p.settings(report=["full"]), 4),
        (lambda p: p.settings(labels_sha256="0" * 64), 4),
        (lambda p: (p.ref / "settings.json").write_text("[]"), 4),
        (lambda p: (p.ref / "settings.json").write_text("{"), 4),
    ],
    ids=[
        "none",
        "several",
        "broken",
        "empty-entry",
        "labels-as-predictions",
        "link-to-labels",
        "pipe",
        "linked-folder",
        "no-folder",
        "labels-empty",
        "labels-broken",
        "labels-wrong",
        "no-blends",
        "no-labels",
        "both-wrong",
        "report-unknown",
        "settings-key",
        "report-list",
        "other-labels",
        "settings-list",
        "settings-broken",
    ],
)
def test_no_score_but_every_problem_and_a_page(platform, capsys, prepare, code):
    (platform.out / "scores.json").write_text('{"score": 1}')  # from an earlier run: it must not survive
    prepare(platform)
    assert platform.run() == code
    assert platform.scores() is None
    streams = capsys.readouterr()
    assert streams.out == "" and streams.err.strip() and "Traceback" not in streams.err
    assert "no score" in platform.page()
    assert ("organisers" in streams.err) == (code == 4)


def test_every_problem_is_reported(platform, capsys):
    platform.submit(
        json.dumps(
            {"predictions": mapping({"test_0001": "ang 60 hap 30", "test_0002": "joy 100", "test_0007": "sad 100"})}
        )
    )
    assert platform.run() == 1
    log = capsys.readouterr().err
    for words in ("sum to 90", "joy", "2 of 4 clips are missing", "test_0007"):
        assert words in log and words in platform.page().replace("&quot;", '"')


def test_scores_are_written_last(platform, monkeypatch):
    monkeypatch.setattr(page, "scored", lambda *args: (_ for _ in ()).throw(RuntimeError("ang")))
    assert platform.run() == 4 and platform.scores() is None


def test_an_output_that_cannot_be_written(platform, capsys, monkeypatch):
    (platform.root / "file").write_text("")
    assert main(["--input", str(platform.root / "input"), "--output", str(platform.root / "file")]) == 3
    assert "cannot be" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------ labels


def test_the_workers_labels_come_first(platform):
    true = mapping(
        {"test_0001": "ang 70 hap 30", "test_0002": "sad 100", "test_0003": "fea 70 sad 30", "test_0004": "sad 100"}
    )
    (platform.root / "worker.json").write_text(json.dumps({"labels": true}))
    assert platform.run() == 0
    assert platform.scores()["score"] == 1.0


def test_labels_must_have_the_hash_that_the_settings_name(platform):
    raw = (platform.ref / "labels.json").read_bytes()
    platform.settings(labels_sha256=hashlib.sha256(raw).hexdigest())
    (platform.root / "worker.json").write_text("another competition's")
    assert platform.run() == 0 and platform.scores() == SCORES  # those on the worker belong to another phase
    (platform.ref / "labels.json").unlink()
    assert platform.run() == 4
    (platform.root / "worker.json").write_bytes(raw)
    assert platform.run() == 0 and platform.scores() == SCORES
    (platform.root / "worker.json").write_bytes(raw + b" ")
    assert platform.run() == 4


def test_labels_on_the_worker_that_cannot_be_read(platform, capsys):
    """For example, a file that only its owner may read. To ignore it would mean to report that there is none."""
    (platform.root / "worker.json").mkdir()
    assert platform.run() == 4 and platform.scores() is None
    assert "mode 0644" in capsys.readouterr().err


SECRET = "zzsecret"


@pytest.mark.parametrize(
    "labels",
    [
        {"labels": {SECRET + "1": entry("ang 60 hap 40"), SECRET + "2": entry("sad 100")}},
        {"labels": {SECRET: [{"emotion": SECRET, "salience": 100}]}},
        {"labels": TRUTH, SECRET: 1},
        {"labels": TRUTH, "groups": {SECRET: "A1"}},
        '{"labels": {"' + SECRET + '": [], "' + SECRET + '": []}}',
        '{"labels": {"a": "' + SECRET,
        SECRET,
    ],
    ids=["salience", "emotion", "key", "groups", "twice", "cut", "text"],
)
def test_wrong_labels_are_the_organisers_fault_and_are_not_shown(platform, capsys, labels):
    platform.labels(labels)
    assert platform.run() == 4
    log = capsys.readouterr().err + platform.page()
    assert SECRET not in log and "organisers" in log


def test_an_unexpected_error_is_reported_by_place_without_its_text(platform, capsys, monkeypatch):
    def broken(*_, **__):
        raise KeyError(f"test_0001 is {SECRET}")

    monkeypatch.setattr(codabench, "evaluate", broken)
    assert platform.run() == 4
    log = capsys.readouterr().err
    assert (
        SECRET not in log + platform.page() and "KeyError at test_codabench.py: line" in log and "Traceback" not in log
    )


def outputs(platform, capsys):
    assert platform.run() == 0
    streams = capsys.readouterr()
    return streams.out + streams.err + "".join(path.read_text() for path in sorted(platform.out.iterdir()))


def test_two_label_sets_with_the_same_totals_cannot_be_told_apart(platform, capsys):
    """One of two clips is right. Nothing says which one."""
    platform.submit(json.dumps(mapping({"a": "ang 100", "b": "sad 100", "c": "ang 50 sad 50"})))
    visible = []
    for labels in (
        {"a": "ang 100", "b": "hap 100", "c": "ang 50 sad 50"},
        {"a": "hap 100", "b": "sad 100", "c": "ang 50 sad 50"},
    ):
        platform.labels({"labels": mapping(labels), "groups": {"a": "A1", "b": "A2", "c": "A2"}})
        visible.append(outputs(platform, capsys))
    assert visible[0] == visible[1]


@pytest.mark.parametrize("level", ["aggregate", "none"])
def test_a_hidden_reference_gets_no_table_by_class(platform, capsys, level):
    platform.settings(report=level)
    visible = outputs(platform, capsys)
    assert not [
        word
        for word in ("precision", "recall", "shaded tab", 'class="shaded', "wrong set", "test_000")
        if word in visible
    ]
    assert ("0.6250" in visible) == (level == "aggregate")
    platform.settings(report="full")
    assert "precision" in outputs(platform, capsys)


# ------------------------------------------------------------------------------------------ score.py


def test_older_pythons_can_read_score_py():
    source = (ROOT / "scoring_program/score.py").read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 4))


@pytest.mark.parametrize("version", ["3.6", "3.7", "3.8"])
def test_an_older_python_gets_one_clear_line(version, tmp_path):
    pythons = sorted((Path.home() / ".pyenv/versions").glob(f"{version}.*/bin/python"))
    if not pythons:
        pytest.skip(f"no Python {version} on this machine")
    result = subprocess.run(
        [pythons[0], "-S", "-E", ROOT / "scoring_program/score.py", "--input", tmp_path, "--output", tmp_path],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 4 and result.stdout == "" and not list(tmp_path.iterdir())
    assert result.stderr.count("\n") == 1 and "3.9" in result.stderr and "py312" in result.stderr


def test_missing_vendored_packages_are_reported():
    result = subprocess.run(
        [sys.executable, "-S", "-s", "-E", ROOT / "scoring_program/score.py"], capture_output=True, text=True
    )
    assert result.returncode == 4 and "blemore-codabench build" in result.stderr and "Traceback" not in result.stderr


def test_the_platforms_paths_are_the_defaults():
    options = codabench._parser().parse_args([])
    assert (str(options.input), str(options.output), str(options.worker_labels)) == (
        "/app/input",
        "/app/output",
        "/app/data/blemore/labels.json",
    )


# ------------------------------------------------------------------------------------------ the page


def random_report(seed=1, n=300):
    rng = random.Random(seed)
    labels = {f"c{k}": LABELS[k % 36] for k in range(n)}
    predictions = {
        clip: to_entry(label if rng.random() < 0.4 else rng.choice(LABELS)) for clip, label in labels.items()
    }
    return evaluate(
        predictions,
        {
            "labels": {clip: to_entry(label) for clip, label in labels.items()},
            "groups": {clip: f"A{int(clip[1:]) % 7}" for clip in labels},
        },
    )


REPORT = random_report()


def test_confusions_count_every_clip_once():
    sets, relations = set_confusion(REPORT), relation_confusion(REPORT)
    assert sum(map(sum, sets)) == REPORT.counts.n == 300
    assert sum(sets[k][k] for k in range(16)) == REPORT.counts.presence
    assert sum(map(sum, relations)) == REPORT.counts.n_blends
    assert sum(relations[k][k] for k in range(3)) == REPORT.counts.salience
    assert sum(line[3] for line in relations) == REPORT.counts.n_blends - sum(sets[k][k] for k in range(6, 16))


def test_confusions_by_hand():
    #         truth            prediction
    # a       ang 70 hap 30    ang 50 hap 50    right set, equal for first
    # b       hap 30 sad 70    sad 100          wrong set
    # c       neu              neu
    report = evaluate(
        mapping({"a": "ang 50 hap 50", "b": "sad 100", "c": "neu 100"}),
        mapping({"a": "ang 70 hap 30", "b": "hap 30 sad 70", "c": "neu 100"}),
    )
    assert relation_confusion(report) == [[0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]
    cells = {
        (SETS[row], SETS[column]): n
        for row, line in enumerate(set_confusion(report))
        for column, n in enumerate(line)
        if n
    }
    assert cells == {(("ang", "hap"), ("ang", "hap")): 1, (("hap", "sad"), ("sad",)): 1, (("neu",), ("neu",)): 1}
    by_emotion = detections(report)
    assert tuple(by_emotion) == EMOTIONS
    assert by_emotion["hap"] == (1, 1, 2) and (by_emotion["hap"].precision, by_emotion["hap"].recall) == (1.0, 0.5)
    assert by_emotion["sad"] == (1, 1, 1) and by_emotion["disg"].precision is None is by_emotion["disg"].recall


def test_participants_text_is_escaped():
    problems = [Problem("x", "<script>alert(1)</script>", "\x1b[31m & <b>", "c<i>", "<img src=x onerror=y>")]
    text = page.failed(problems)
    assert not [tag for tag in ("<script", "<img", "<i>", "\x1b") if tag in text]
    assert "&lt;script&gt;" in text
    assert "1,000" not in text and "4 more" in page.failed(problems * (page.MOST_PROBLEMS + 4))


def test_levels():
    intervals = significance.intervals(REPORT)
    full, aggregate, none = (page.scored(REPORT, intervals, level=level) for level in page.LEVELS)
    assert len(full) > len(aggregate) > len(none)
    assert "jackknife over 7 actors" in full and "always fea" in full
    assert not [word for word in ("interval", "always fea", "ci:", "blends") if word in aggregate + none]
    with pytest.raises(ValueError, match="intervals"):
        page.scored(REPORT, None, level="full")
    with pytest.raises(ValueError, match="level"):
        page.scored(REPORT, intervals, level="all")


# -------------------------------------------------------------------- its looks, if there is a browser

PROBE = """<script>
addEventListener("load", () => { document.title = [...document.querySelectorAll("iframe")].map(frame => {
  const root = frame.contentDocument.documentElement;
  const beyond = e => e.getBoundingClientRect().right > root.clientWidth + 0.5;
  const cut = [...root.querySelectorAll("*")].filter(beyond).length;
  const requests = frame.contentWindow.performance.getEntriesByType("resource").length;
  const paper = frame.contentWindow.getComputedStyle(frame.contentDocument.body).backgroundColor;
  return [root.scrollWidth - root.clientWidth, cut, requests, paper].join("|");
}).join("; ") });
</script>"""
FRAME = '<iframe style="border:0;width:{}px;height:900px" srcdoc="{}"></iframe>'


@pytest.mark.parametrize("width", [320, 360, 1200])
@pytest.mark.parametrize("scheme, paper", [("light", "rgb(255, 255, 255)"), ("dark", "rgb(20, 23, 26)")])
def test_the_page_in_a_browser(tmp_path, width, scheme, paper):
    """In a frame: no horizontal scrolling, nothing beyond the edge, no request, the background of the scheme."""
    intervals = significance.intervals(REPORT)
    pages = [
        *(page.scored(REPORT, intervals, level=level) for level in page.LEVELS),
        page.failed([Problem("x", "s.json", "y" * 400, hint="h" * 400)] * 3),
    ]
    frames = "".join(FRAME.format(width, html.escape(text)) for text in pages)
    (tmp_path / "outer.html").write_text(
        f'<!DOCTYPE html><html><head>{PROBE}</head><body style="margin:0">{frames}</body></html>'
    )
    assert title_in_chromium(tmp_path / "outer.html", scheme) == "; ".join([f"0|0|0|{paper}"] * len(pages))


def title_in_chromium(path, scheme):
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no Chromium on this machine")
    result = subprocess.run(
        [
            program,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={path.parent / 'profile'}",
            "--window-size=1300,1000",
            "--hide-scrollbars",
            f"--blink-settings=preferredColorScheme={int(scheme == 'light')}",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--dump-dom",
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    return html.unescape(re.search("<title>(.*?)</title>", result.stdout).group(1))


def test_nothing_in_the_page_can_load_anything():
    text = page.scored(REPORT, significance.intervals(REPORT))
    assert "default-src 'none'" in text
    assert not [part for part in ("<script", "src=", "href=", "url(", "@import", "http:", "https:") if part in text]


def test_files_follow_the_umask(platform):
    platform.run()
    assert stat.S_IMODE((platform.out / "scores.json").stat().st_mode) & 0o444


def test_a_link_in_a_submission_leads_nowhere(tmp_path):
    """Otherwise messages would reveal the file that it points to, such as the labels."""
    (tmp_path / "labels.json").write_text("{}")
    (tmp_path / "res").mkdir()
    (tmp_path / "res" / "s.json").symlink_to(tmp_path / "labels.json")
    with pytest.raises(ValidationError, match="no JSON file in it"):
        codabench.read_submission(tmp_path / "res")
