"""From labels to a bundle: what it contains, what it must not contain, and that equal inputs give equal bytes."""

import hashlib
import hmac
import io
import json
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

import blemore
from blemore import trivial
from blemore.codabench import SCORE_KEYS
from blemore.errors import ReferenceLabelsError
from blemore.evaluate import check as check_submission
from blemore.labels import clip_id
from blemore_codabench import build as building
from blemore_codabench import logo, vendor
from blemore_codabench.build import HERE, build
from blemore_codabench.bundle import Bundle, BundleError, pack, unpack
from blemore_codabench.check import check
from blemore_codabench.cli import main

SECRET = "0123456789abcdef" * 4  # of the bundle that the tests share
QUEUE = "b1946ac9-2a6c-4a5e-9f0e-1c3e4d5f6a7b"


def run(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


@pytest.fixture
def bundle(built):
    return Bundle(built.bundle)


def test_the_built_bundle_passes_every_check(built):
    errors, notes = check(built.bundle)
    assert errors == [] and ["anyone can download" in str(note) for note in notes] == [True]
    counts = {name: blends(labels) for name, labels in (("practice", built.practice), ("test", built.labels))}
    assert built.phases == [f"{name} phase: 120 clips, {n} blends, 11 actors" for name, n in counts.items()]


def blends(data):
    return sum(len(entry) == 2 for entry in data["labels"].values())


def test_the_bundle_has_both_phases(bundle):
    practice, test = bundle.config["phases"]
    assert (practice["start"], practice["end"]) == ("2026-02-01 00:00:00", "2026-02-28 23:59:59")
    assert (test["start"], test["end"]) == ("2026-03-01 00:00:00", "2026-04-01 12:30:00")
    assert [phase["tasks"] for phase in (practice, test)] == [[0], [1]]
    assert [task["reference_data"] for task in bundle.config["tasks"]] == [
        "practice_reference.zip",
        "test_reference.zip",
    ]


def test_dates_are_quoted(bundle):
    text = bundle.files["competition.yaml"].decode()
    assert "start: '2026-03-01 00:00:00'" in text and "end: '2026-04-01 12:30:00'" in text


def test_the_leaderboard_has_the_scorers_keys(bundle):
    (board,) = bundle.config["leaderboards"]
    assert tuple(column["key"] for column in board["columns"]) == SCORE_KEYS
    assert [column["index"] for column in board["columns"]] == [0, 1, 2]
    assert board["submission_rule"] == "Force_Best" and bundle.config["enable_detailed_results"] is True
    assert bundle.config["docker_image"] == "codalab/codalab-legacy:py312"


def test_labels_and_settings_of_each_phase(bundle, built):
    for name, key, report in (("practice", "practice", "full"), ("test", "labels", "aggregate")):
        files = bundle.data(f"{name}_reference.zip")
        assert json.loads(files["labels.json"]) == getattr(built, key)
        hashes = {"labels_sha256": hashlib.sha256(files["labels.json"]).hexdigest()}
        if name == "test":
            hashes = {"labels_hmac_sha256": keyed(files["labels.json"], SECRET)}
        assert json.loads(files["settings.json"]) == {"report": report, **hashes}


def keyed(raw, secret):
    return hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()


def test_no_hash_of_hidden_labels_can_be_tested_with_guesses(built, tmp_path):
    """Without a secret in the labels, each bundle gets a new one, which keys every hash that anyone can download."""
    plain = {key: value for key, value in built.labels.items() if key != "secret"}
    (tmp_path / "labels.json").write_text(json.dumps(plain))
    files = []
    for name in ("a", "b"):
        out = tmp_path / f"{name}.zip"
        build(built.options._replace(labels=tmp_path / "labels.json", out=out, labels_on_worker=True, queue=QUEUE))
        labels = json.loads(out.with_suffix(".labels.json").read_text())
        assert len(labels.pop("secret")) == 64 and labels == plain
        files.append(Bundle(out).files)
    assert [name for name in files[0] if files[0][name] != files[1][name]] == ["test_reference.zip"]
    settings = [json.loads(unpack(bundle["test_reference.zip"], "")["settings.json"]) for bundle in files]
    assert [set(fields) for fields in settings] == [{"report", "labels_hmac_sha256"}] * 2 and settings[0] != settings[1]


def test_participants_files(bundle, tmp_path):
    for phase in bundle.config["phases"]:
        files = bundle.data(phase["public_data"])
        (table,) = [name for name in files if name.endswith("_clips.csv")]
        ids = files[table].decode().split()[1:]
        for name in ("submission_template.json", "submission_template.zip"):
            (tmp_path / name).write_bytes(files[name])
            assert len(check_submission(tmp_path / name, ids)) == 120
        assert {"submission.schema.json", "README.md", "blemore_starting_kit.ipynb"} == set(
            bundle.data(phase["starting_kit"])
        )


def test_participants_files_do_not_depend_on_the_labels(built, tmp_path):
    """Other labels for the same clips change only the reference data."""
    turned = {
        "labels": dict(zip(reversed(built.labels["labels"]), built.labels["labels"].values())),
        "groups": built.labels["groups"],
        "secret": SECRET,
    }
    assert turned["labels"] != built.labels["labels"]
    (tmp_path / "labels.json").write_text(json.dumps(turned))
    build(built.options._replace(labels=tmp_path / "labels.json", out=tmp_path / "other.zip"))
    first, second = Bundle(built.bundle).files, Bundle(tmp_path / "other.zip").files
    assert [name for name in first if first[name] != second[name]] == ["test_reference.zip"]
    for name in ("trivial_single", "trivial_blend"):
        assert (tmp_path / f"other.{name}.zip").read_bytes() == built.bundle.with_suffix(f".{name}.zip").read_bytes()
    reachable = {
        phase[key] for phase in Bundle(built.bundle).config["phases"] for key in ("starting_kit", "public_data")
    }
    assert reachable.isdisjoint({"test_reference.zip", "practice_reference.zip"})


def test_the_same_inputs_give_the_same_bytes(built, tmp_path):
    build(built.options._replace(out=tmp_path / "again.zip"))
    assert (tmp_path / "again.zip").read_bytes() == built.bundle.read_bytes()
    entries = zipfile.ZipFile(built.bundle).infolist()
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)} and [
        e.filename for e in entries
    ] == sorted(e.filename for e in entries)


def test_labels_as_csv_give_the_same_bundle(built, tmp_path):
    rows = ["filename,video_id,emotion_1,emotion_2,emotion_1_salience,emotion_2_salience"]
    for clip, parts in built.labels["labels"].items():
        first, second = parts if len(parts) == 2 else (parts[0], {"emotion": "", "salience": ""})
        salience = first["salience"] if second["emotion"] else ""
        cells = (clip + ".mov", built.labels["groups"][clip], first["emotion"], second["emotion"])
        rows.append(",".join(map(str, (*cells, salience, second["salience"]))))
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    build(built.options._replace(labels=tmp_path / "labels.csv", out=tmp_path / "csv.zip"))
    bundle, original = Bundle(tmp_path / "csv.zip"), Bundle(built.bundle)
    assert [name for name in bundle.files if bundle.files[name] != original.files[name]] == ["test_reference.zip"]
    labels = json.loads(bundle.data("test_reference.zip")["labels.json"])
    assert {**labels, "secret": SECRET} == built.labels and labels["secret"] != SECRET


def test_labels_on_the_worker(built, tmp_path):
    result = build(built.options._replace(labels_on_worker=True, queue=QUEUE, out=tmp_path / "b.zip"))
    files = Bundle(tmp_path / "b.zip").data("test_reference.zip")
    assert set(files) == {"settings.json"}
    assert json.loads(files["settings.json"])["labels_hmac_sha256"] == keyed(
        (tmp_path / "b.labels.json").read_bytes(), SECRET
    )
    assert json.loads((tmp_path / "b.labels.json").read_text()) == built.labels
    assert "labels.json" in Bundle(tmp_path / "b.zip").data("practice_reference.zip")
    assert any("/blemore/labels.json" in note and "0644" in note for note in result.notes)
    assert Bundle(tmp_path / "b.zip").config["queue"] == QUEUE
    assert check(tmp_path / "b.zip") == ([], [])


def test_without_a_queue_labels_on_the_worker_would_never_be_found(built, tmp_path):
    result = build(built.options._replace(labels_on_worker=True, out=tmp_path / "b.zip"))
    assert any("--queue" in note for note in result.notes)
    (error,) = check(tmp_path / "b.zip").errors
    assert error.code == "no-queue" and "public workers" in str(error) and "--queue" in str(error)


def test_a_rebuilt_bundle_keeps_the_secret_that_is_on_the_worker(built, tmp_path):
    """New dates then need no new file on the worker."""
    options = built.options._replace(labels_on_worker=True, queue=QUEUE)
    build(options._replace(out=tmp_path / "a.zip"))
    later = {"start": options.start + timedelta(days=9), "labels": tmp_path / "a.labels.json"}
    build(options._replace(out=tmp_path / "b.zip", **later))
    assert (tmp_path / "a.labels.json").read_bytes() == (tmp_path / "b.labels.json").read_bytes()
    first, second = (Bundle(tmp_path / name).files for name in ("a.zip", "b.zip"))
    assert [name for name in first if first[name] != second[name]] == ["competition.yaml"]


def test_the_seeds_are_the_most_frequent_answers_of_train(built):
    for name, label in (("single", trivial.train_answers().single), ("blend", trivial.train_answers().blend)):
        predictions = check_submission(built.bundle.with_suffix(f".trivial_{name}.zip"), built.labels["labels"])
        assert {entry.label for entry in predictions.values()} == {label}


def test_without_dates_it_starts_now_without_end(built, tmp_path):
    before = datetime.now(UTC)
    result = build(built.options._replace(out=tmp_path / "b.zip", practice_labels=None, start=None, end=None))
    (phase,) = Bundle(tmp_path / "b.zip").config["phases"]
    start = datetime.strptime(phase["start"], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    assert timedelta(0) <= start - before.replace(microsecond=0) < timedelta(minutes=1) and "end" not in phase
    assert phase["tasks"] == [0] == [task["index"] for task in Bundle(tmp_path / "b.zip").config["tasks"]]
    assert any("has no end" in note and "--start" in note for note in result.notes)
    assert check(tmp_path / "b.zip").errors == []


def test_offsets_become_utc_on_the_command_line(built, tmp_path):
    result = run(
        "build",
        "--labels",
        built.options.labels,
        "--out",
        tmp_path / "b.zip",
        "--wheels",
        built.options.wheels,
        "--labels-on-platform",
        "--allow-past",
        "--start",
        "2026-03-01T02:00+02:00",
        "--end",
        "2026-03-02",
    )
    assert result.exit_code == 0 and str(tmp_path / "b.zip") in result.stdout
    (phase,) = Bundle(tmp_path / "b.zip").config["phases"]
    assert (phase["start"], phase["end"]) == ("2026-03-01 00:00:00", "2026-03-02 00:00:00")
    assert run("build", "--labels", "x", "--out", "y.zip", "--start", "tomorrow").exit_code == 2


@pytest.mark.parametrize(
    "labels, out, message",
    [
        ("labels.json", "bundle.tar", "ends in .zip"),
        ("b.zip", "b.zip", "'--out' would overwrite b.zip, which '--labels' names"),
        ("b.labels.json", "b.zip", "'--out' would overwrite b.labels.json"),
        ("labels.json", "there/b.zip", "'--out' would overwrite there/b.trivial_blend.zip, which '--config' names"),
    ],
)
def test_labels_and_configuration_are_not_written_over(tmp_path, monkeypatch, labels, out, message):
    monkeypatch.chdir(tmp_path)
    result = run("build", "--labels", labels, "--config", "there/b.trivial_blend.zip", "--out", out)
    assert result.exit_code == 2 and message in " ".join(result.stderr.split()), result.stderr


def test_an_own_configuration(built, tmp_path):
    config = yaml.safe_load((HERE / "competition.yaml").read_text())
    config["title"] = "Mine"
    config["pages"] = [{"title": "Mine", "file": "mine.md"}]
    (tmp_path / "mine.md").write_text("# Mine")
    (tmp_path / "competition.yaml").write_text(yaml.safe_dump(config))
    build(built.options._replace(config=tmp_path / "competition.yaml", out=tmp_path / "b.zip"))
    bundle = Bundle(tmp_path / "b.zip")
    assert (
        bundle.config["title"] == "Mine"
        and bundle.files["mine.md"] == b"# Mine"
        and bundle.files["terms.md" if "terms.md" in bundle.files else "pages/terms.md"]
    )


@pytest.mark.parametrize(
    "labels, error",
    [
        ('{"labels": {"a": [{"emotion": "ang", "salience": 60}]}}', ReferenceLabelsError),
        ('{"labels": {"a": [{"emotion": "ang", "salience": 100}]}}', BundleError),
        ("{", ReferenceLabelsError),
    ],
)
def test_wrong_labels_are_refused(built, tmp_path, labels, error):
    (tmp_path / "labels.json").write_text(labels)
    with pytest.raises(error) as caught:
        build(built.options._replace(labels=tmp_path / "labels.json", out=tmp_path / "b.zip"))
    assert caught.value.exit_code == 4 and "labels.json" in str(caught.value) and not (tmp_path / "b.zip").exists()


@pytest.mark.parametrize(
    "config", ["phases: []\ntasks: []", "phases: 3\ntasks: []", "- a", "a: [", "title: a\ntitle: b"]
)
def test_wrong_configurations_are_refused(built, tmp_path, config):
    (tmp_path / "c.yaml").write_text(config)
    with pytest.raises(BundleError):
        build(built.options._replace(config=tmp_path / "c.yaml", out=tmp_path / "b.zip"))


def test_an_end_before_the_start_is_refused(built, tmp_path):
    with pytest.raises(BundleError, match="not after"):
        build(built.options._replace(end=built.options.start, out=tmp_path / "b.zip"))


# ------------------------------------------------------------------------------------- the program


def test_the_program_is_the_packages_own_code(bundle):
    program = bundle.data("scoring_program.zip")
    source = Path(blemore.__file__).parent
    inside = {name[len("blemore/") :]: raw for name, raw in program.items() if name.startswith("blemore/")}
    expected = {
        path.relative_to(source).as_posix(): path.read_bytes()
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert inside == {name: raw for name, raw in expected.items() if name not in ("cli.py", "rank_cli.py")}
    assert {"score.py", "metadata.yaml"} == {name for name in program if "/" not in name}


def test_vendor_is_pure_python(bundle):
    vendored = {name for name in bundle.data("scoring_program.zip") if name.startswith("vendor/")}
    assert {
        "vendor/jsonschema/__init__.py",
        "vendor/attr/__init__.py",
        "vendor/pyrsistent/__init__.py",
        "vendor/jsonschema/schemas/draft2020-12.json",
    } <= vendored
    assert not [name for name in vendored if name.endswith((".so", ".pyd", ".pyc", ".pyi", ".dll"))]
    assert sum("license" in name.lower() or "copying" in name.lower() for name in vendored) == len(vendor.WHEELS)


def test_changed_or_missing_wheels_are_refused(wheels, tmp_path):
    with pytest.raises(BundleError) as caught:
        vendor.vendored(tmp_path)
    assert len(caught.value.problems) == len(vendor.WHEELS) and all(
        "SHA-256" in str(problem) for problem in caught.value.problems
    )
    for name in vendor.WHEELS:
        (tmp_path / name).write_bytes((wheels / name).read_bytes() + b" ")
    with pytest.raises(BundleError, match="expected"):
        vendor.vendored(tmp_path)


def test_without_a_network_the_message_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(BundleError, match="--wheels DIR"):
        vendor.fetch(tmp_path)


def test_zips_are_reproducible_whatever_the_order():
    assert pack({"b": b"2", "a": b"1"}) == pack({"a": b"1", "b": b"2"})
    assert unpack(pack({"a/b": b"1"}), "z") == {"a/b": b"1"}


def test_the_logo_is_the_drawn_one():
    png = (HERE / "logo.png").read_bytes()
    assert png.startswith(b"\x89PNG\r\n\x1a\n") and logo.SIZE == int.from_bytes(png[16:20], "big")
    assert logo.pixel(logo.SIZE // 5, logo.SIZE // 2) == bytes(logo.WARM) and logo.pixel(0, 0) == bytes(logo.PAPER)


def test_pages_name_the_metric_as_the_scorer_computes_it():
    """The worked example of the evaluation page, scored."""
    text = (HERE / "pages/evaluation.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith(("| a ", "| b ", "| c ", "| d "))
    ]

    def entries(column):
        return {
            row[0]: [{"emotion": part.split()[0], "salience": int(part.split()[1])} for part in row[column].split(",")]
            for row in rows
        }

    assert len(rows) == 4
    assert blemore.acc_presence(entries(2), entries(1)) == 3 / 4
    assert blemore.acc_salience(entries(2), entries(1)) == 1 / 3
    assert blemore.score(entries(2), entries(1)) == pytest.approx(13 / 24) and "13/24 ≈ 0.5417" in text


def test_ids_keep_their_form(tmp_path, built):
    """Clips with a suffix in the labels are listed without it: both names mean the same clip."""
    data = {"labels": {f"{clip}.mov": entry for clip, entry in built.labels["labels"].items()}}
    (tmp_path / "labels.json").write_text(json.dumps(data))
    build(built.options._replace(labels=tmp_path / "labels.json", out=tmp_path / "b.zip", practice_labels=None))
    files = Bundle(tmp_path / "b.zip").data("test_data.zip")
    assert files["test_clips.csv"].decode().split()[1:] == sorted(map(clip_id, data["labels"]))


def test_the_bundle_is_small(built):
    assert built.bundle.stat().st_size < 2**20
    assert zipfile.ZipFile(io.BytesIO(built.bundle.read_bytes())).testzip() is None


def test_the_documented_options_exist(built):
    text = run("build", "--help").stdout
    for option in (
        "--labels",
        "--out",
        "--practice-labels",
        "--labels-on-worker",
        "--labels-on-platform",
        "--queue",
        "--ids",
        "--allow-past",
        "--start",
        "--end",
        "--config",
        "--wheels",
        "--report",
    ):
        assert option in text
    assert building.Options._field_defaults["report"] == "aggregate"
