"""Prediction with an artefact: features must be made like the model's, and only a checked submission is written."""

import contextlib
import json
import shutil
import zipfile

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from blemore.errors import FileError, ValidationError
from blemore.evaluate import check
from blemore.labels import LABELS
from blemore_baselines import predict, train
from blemore_baselines.decoding.scores import softmax
from blemore_baselines.decoding.thresholds import decode_thresholds
from blemore_baselines.features import Features, read_features, read_scores, save, statistics
from blemore_baselines.predict import match, write_submission

pytestmark = pytest.mark.usefixtures("quick")


def trained(tiny, out, *folders, method="aggregate", head="linear"):
    sources = [tiny.read(folder, aggregated=method == "aggregate") for folder in folders]
    train.train(tiny.dataset, sources, folders, method=method, head=head, preset="published", seed=0, out=out)
    return out


@pytest.fixture
def model(tiny, tmp_path):
    return trained(tiny, tmp_path / "run", tiny.sound)


def refusal(call, *arguments):
    with pytest.raises(ValidationError) as error:
        call(*arguments)
    return str(error.value)


# --------------------------------------------------------------------------------- round trip


def test_a_prediction_equals_plain_arithmetic(tiny, model):
    logits, labels = predict.predict(model, [tiny.sound_test], tiny.test_ids)
    tensors, spec = load_file(model / "model.safetensors"), json.loads((model / "model.json").read_text())
    X = np.stack([statistics(np.load(tiny.sound_test / f"{clip}.npy")) for clip in tiny.test_ids])
    expected = (X - tensors["scaler.mean"]) / tensors["scaler.scale"] @ tensors["head.weight"].T + tensors["head.bias"]
    assert logits == pytest.approx(expected, abs=1e-5)
    assert labels.tolist() == decode_thresholds(softmax(logits), train_thresholds(spec)).tolist()


def train_thresholds(spec):
    from blemore_baselines.decoding.thresholds import Thresholds

    return Thresholds(spec["decoder"]["alpha"], spec["decoder"]["beta"])


def test_a_model_needs_only_two_files(tiny, model, tmp_path):
    before = predict.predict(model, [tiny.sound_test], tiny.test_ids)
    (tmp_path / "alone").mkdir()
    for name in ("model.json", "model.safetensors"):
        shutil.copy(model / name, tmp_path / "alone")
    shutil.rmtree(model)
    assert (predict.predict(tmp_path / "alone", [tiny.sound_test], tiny.test_ids)[0] == before[0]).all()


def test_the_order_of_additions_does_not_matter(tiny, tmp_path):
    # The same sums in another order: the columns of features, scaler and weights are all reversed.
    trained(tiny, tmp_path / "run", tiny.sound, head="mlp256")
    features = read_features(tiny.sound_test, tiny.test_ids)
    save(features, tmp_path / "test.npz")
    shutil.copytree(tmp_path / "run", tmp_path / "reversed")
    save(features._replace(X=np.ascontiguousarray(features.X[:, ::-1])), tmp_path / "reversed.npz")
    tensors = load_file(tmp_path / "run" / "model.safetensors")
    for name in ("scaler.mean", "scaler.scale", "head.0.weight"):
        tensors[name] = np.ascontiguousarray(tensors[name][..., ::-1])
    save_file(tensors, tmp_path / "reversed" / "model.safetensors")
    original, reversed_ = (
        predict.predict(tmp_path / name, [tmp_path / table], tiny.test_ids)
        for name, table in (("run", "test.npz"), ("reversed", "reversed.npz"))
    )
    assert (original[0] == reversed_[0]).all() and (original[1] == reversed_[1]).all()


def test_predictions_follow_their_ids(tiny, model):
    logits, _ = predict.predict(model, [tiny.sound_test], tiny.test_ids)
    reversed_logits, _ = predict.predict(model, [tiny.sound_test], tiny.test_ids[::-1])
    assert reversed_logits == pytest.approx(logits[::-1], abs=1e-6)


def test_a_folder_and_its_aggregate_predict_the_same(tiny, model, tmp_path):
    save(read_features(tiny.sound_test, tiny.test_ids[::-1]), tmp_path / "test.npz")
    from_folder, _ = predict.predict(model, [tiny.sound_test], tiny.test_ids)
    from_table, _ = predict.predict(model, [tmp_path / "test.npz"], tiny.test_ids)
    assert (from_folder == from_table).all()


def test_a_subsampled_model_predicts(tiny, tmp_path):
    model = trained(tiny, tmp_path / "run", tiny.sound, method="subsample", head="mlp256")
    logits, labels = predict.predict(model, [tiny.sound_test], tiny.test_ids)
    assert logits.shape == (8, 6) and labels.shape == (8,)
    save(read_features(tiny.sound_test, tiny.test_ids), tmp_path / "test.npz")
    assert "holds one row per clip" in refusal(predict.predict, model, [tmp_path / "test.npz"], tiny.test_ids)


# ------------------------------------------------------------------------- features that match


def test_sources_are_matched_by_how_they_were_made_not_by_position(tiny, tmp_path):
    model = trained(tiny, tmp_path / "run", tiny.sound, tiny.look)
    in_order, _ = predict.predict(model, [tiny.sound_test, tiny.look_test], tiny.test_ids)
    swapped, _ = predict.predict(model, [tiny.look_test, tiny.sound_test], tiny.test_ids)
    assert (in_order == swapped).all()


def source(value=0, **meta):
    return Features(["t"], np.full((1, 2), float(value)), np.array([0]), meta)


def matched(sources, wants):
    return [source.X[0, 0] for source in match(sources, [f"path{k}" for k in range(len(sources))], wants)]


WANT_A = {
    "encoder": "a",
    "revision": "r1",
    "preset": "p",
    "precision": "fp32",
    "statistics": ["mean"],
    "dim": 2,
    "path": "train/a",
    "digest": "0",
}
WANT_B = {**WANT_A, "encoder": "b", "path": "train/b"}


def meta_of(want, **changes):
    return {key: value for key, value in {**want, **changes}.items() if key not in ("path", "digest")}


def test_two_sources_of_the_same_width_in_either_order():
    a, b = source(1, **meta_of(WANT_A)), source(2, **meta_of(WANT_B))
    assert matched([a, b], [WANT_A, WANT_B]) == matched([b, a], [WANT_A, WANT_B]) == [1, 2]


def test_a_source_with_little_metadata_does_not_displace_a_better_match():
    # A table only records its columns and width: it could stand for A, but A itself matches better.
    want_table = {"columns": ["x", "y"], "dim": 2, "path": "train.csv", "digest": "0"}
    a, table = source(1, **meta_of(WANT_A)), source(2, columns=["x", "y"], dim=2)
    for sources in ([a, table], [table, a]):
        assert matched(sources, [WANT_A, want_table]) == [1, 2] and matched(sources, [want_table, WANT_A]) == [2, 1]


def test_what_only_one_side_records_is_not_a_difference():
    official = {"encoder": "a", "statistics": ["mean"], "dim": 2}  # the dataset's own folders have no revision
    assert matched([source(1, **official)], [WANT_A]) == [1]
    assert matched([source(1, **meta_of(WANT_A))], [{**official, "path": "train/a", "digest": "0"}]) == [1]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"encoder": "c"}, 'encoder is "c", the model\'s "a"'),
        ({"revision": "r2"}, 'revision is "r2", the model\'s "r1"'),
        ({"preset": "q"}, 'preset is "q", the model\'s "p"'),
        ({"precision": "bf16"}, 'precision is "bf16", the model\'s "fp32"'),
        ({"dim": 3}, 'dim is "3", the model\'s "2"'),
        ({"statistics": ["mean", "std"]}, "statistics is"),
        ({"encoder": "c", "dim": 3}, 'encoder is "c", the model\'s "a"; dim is "3", the model\'s "2"'),
    ],
)
def test_features_made_differently_are_refused_with_the_difference(changes, message):
    text = refusal(match, [source(**meta_of(WANT_A, **changes))], ["test/a"], [WANT_A])
    assert "test/a: does not match the model's a: " in text and message in text


def test_a_missing_and_an_unneeded_source():
    a, b = source(1, **meta_of(WANT_A)), source(2, **meta_of(WANT_B))
    assert "b: the model was trained on it (from train/b); no --features given matches" in refusal(
        match, [a], ["x"], [WANT_A, WANT_B]
    )
    assert "y: the model was not trained on features like these" in refusal(match, [a, b], ["x", "y"], [WANT_A])
    assert "y: the model was not trained on features like these" in refusal(match, [a, a], ["x", "y"], [WANT_A])


def test_every_source_is_reported_once():
    # The second source is the most similar to A, so the first is not needed.
    near, far = source(**meta_of(WANT_A, dim=3)), source(**meta_of(WANT_A, encoder="z", revision="r9", dim=7))
    text = refusal(match, [far, near], ["far", "near"], [WANT_A])
    assert "near: does not match the model's a: dim" in text and text.count("near:") == 1
    assert "far: the model was not trained" in text


def test_features_of_another_encoder_are_refused(tiny, model):
    text = refusal(predict.predict, model, [tiny.look_test], tiny.test_ids)
    assert 'encoder is "look", the model\'s "sound"' in text and 'dim is "21", the model\'s "35"' in text


def test_features_that_lack_a_clip_are_refused(tiny, model):
    (tiny.sound_test / "test_0003.npy").unlink()
    assert "1 of 8 clips have no features: test_0003" in refusal(
        predict.predict, model, [tiny.sound_test], tiny.test_ids
    )


# ----------------------------------------------------------------------------- broken artefacts


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_an_artefact_with_a_missing_or_truncated_file(tiny, model, name):
    content = (model / name).read_bytes()
    for cut in (0, 5, len(content) // 2, len(content) - 3):
        (model / name).write_bytes(content[:cut])
        assert name in refusal(predict.predict, model, [tiny.sound_test], tiny.test_ids)
    (model / name).unlink()
    with pytest.raises(FileError, match=name):
        predict.predict(model, [tiny.sound_test], tiny.test_ids)


def test_a_json_that_is_not_a_model(tiny, model):
    for content in ("[]", "{}", '{"model_type": "bert"}'):
        (model / "model.json").write_text(content)
        assert "model.json" in refusal(predict.predict, model, [tiny.sound_test], tiny.test_ids)


ODD = (None, True, 0, -1, 10**30, "", "\x1b", [], [[]], ["head"], {}, [{}], [None], float("nan"))


def test_a_model_json_with_a_key_removed_or_of_another_type(tiny, model):
    """Every change to a part that a prediction needs is refused with a message. Other parts are only for people."""
    whole = json.loads((model / "model.json").read_text())

    def changes(node, place):
        for key in node:
            yield {name: value for name, value in node.items() if name != key}, (*place, key)
            for odd in ODD:
                yield {**node, key: odd}, (*place, key)

    def damaged():
        yield from changes(whole, ())
        for decoder, place in changes(whole["decoder"], ("decoder",)):
            yield {**whole, "decoder": decoder}, place
        for entry, place in changes(whole["features"][0], ("features",)):
            yield {**whole, "features": [entry]}, place

    needed = {"head", "method", "features", "emotions", "decoder"}
    for spec, place in damaged():
        (model / "model.json").write_text(json.dumps(spec))
        try:
            predict.predict(model, [tiny.sound_test], tiny.test_ids)
            assert place[0] not in needed or place[1:] in [
                (key,) for key in ("encoder", "digest", "path", "preset", "revision", "statistics")
            ], (place, spec)
        except ValidationError as error:
            assert "model.json" in str(error) or place[0] == "features", (place, str(error))


def test_all_wrong_keys_of_a_model_are_named(tiny, model):
    spec = json.loads((model / "model.json").read_text())
    del spec["head"]
    (model / "model.json").write_text(json.dumps({**spec, "method": "magic"}))
    text = refusal(predict.predict, model, [tiny.sound_test], tiny.test_ids)
    assert 'head is missing; method is "magic"' in text and "Copy it again, or train again." in text


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.pop("scaler.mean"),
        lambda t: t.pop("head.bias"),
        lambda t: t.update(more=t["head.bias"]),
        lambda t: t.clear(),
        *(
            lambda t, name=name: t.update({name: t[name][:-1]})
            for name in ("scaler.mean", "scaler.scale", "head.bias", "head.weight")
        ),
        lambda t: t.update({"head.weight": t["head.weight"].T.copy()}),
        lambda t: t.update({"scaler.mean": t["scaler.mean"][:, None]}),
        lambda t: t.update({name: np.zeros((0,), np.float32) for name in t}),
    ],
)
def test_other_arrays_than_the_model_s_are_refused(tiny, model, change):
    tensors = load_file(model / "model.safetensors")
    change(tensors)
    save_file(tensors, model / "model.safetensors")
    text = refusal(predict.predict, model, [tiny.sound_test], tiny.test_ids)
    assert "model.safetensors: cannot be read: found" in text and "train again" in text and len(text) < 1000


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "name, value", [("head.bias", np.nan), ("head.weight", np.inf), ("scaler.mean", 1e300), ("scaler.scale", 0)]
)
def test_numbers_that_make_scores_infinite_are_refused(tiny, model, name, value):
    tensors = load_file(model / "model.safetensors")
    tensors[name][:] = value
    save_file(tensors, model / "model.safetensors")
    assert "model.safetensors: turns these features into NaN or Infinity" in refusal(
        predict.predict, model, [tiny.sound_test], tiny.test_ids
    )


def test_bytes_changed_anywhere_give_no_traceback(tiny, model, long):
    rng = np.random.default_rng(0)
    for name in ("model.json", "model.safetensors"):
        content = (model / name).read_bytes()
        for _ in range(1000 if long else 100):
            changed = bytearray(content)
            for place in rng.integers(0, min(len(content), 1000), rng.integers(1, 4)):
                changed[place] = rng.integers(256)
            (model / name).write_bytes(changed)
            with contextlib.suppress(ValidationError):
                predict.predict(model, [tiny.sound_test], tiny.test_ids)
        (model / name).write_bytes(content)
    (model / "model.json").write_text("[" * 100_000)
    assert "model.json" in refusal(predict.predict, model, [tiny.sound_test], tiny.test_ids)


def test_a_path_that_is_not_a_run_folder(tiny, model):
    for path, content in (
        (tiny.sound_test, "no model.json in it"),
        (model / "model.json", "a file"),
        (tiny.test, "a file"),
    ):
        with pytest.raises(FileError) as error:
            predict.predict(path, [model], tiny.test_ids)
        assert str(error.value).startswith(f"{path}: {content}; expected a run folder")
    with pytest.raises(FileError, match="cannot be opened: No such file"):
        predict.predict(tiny.root / "nowhere", [tiny.sound_test], tiny.test_ids)


def test_an_unfinished_run_is_refused(tiny, model):
    for name in (
        "metrics.json",
        "model.json",
        "model.safetensors",
        "oof_logits.csv",
        "labels.csv",
        "folds.csv",
        "learning_curves.csv",
    ):
        (model / name).unlink()
    with pytest.raises(FileError, match="run: holds an unfinished run; .*\n.*same `train` command continues"):
        predict.predict(model, [tiny.sound_test], tiny.test_ids)
    assert "The same `train` command continues it" in refusal(read_scores, model)


def test_predictions_do_not_depend_on_the_grad_mode(tiny, model):
    with torch.no_grad():
        without_grad, _ = predict.predict(model, [tiny.sound_test], tiny.test_ids)
    with_grad, _ = predict.predict(model, [tiny.sound_test], tiny.test_ids)
    assert (without_grad == with_grad).all()


# ---------------------------------------------------------------------------------- submissions

IDS = ["test_0001", "test_0002", "test_0003"]


def test_a_submission_by_hand(tmp_path):
    out = tmp_path / "deep" / "submission.zip"
    write_submission(IDS, np.array([0, 5, 8]), out)
    with zipfile.ZipFile(out) as archive:
        assert archive.namelist() == ["predictions.json"]
        data = json.loads(archive.read("predictions.json"))
    assert data == {
        "predictions": {
            "test_0001.mov": [{"emotion": "ang", "salience": 100}],
            "test_0002.mov": [{"emotion": "neu", "salience": 100}],
            "test_0003.mov": [{"emotion": "ang", "salience": 30}, {"emotion": "disg", "salience": 70}],
        }
    }
    assert [path.name for path in out.parent.iterdir()] == ["submission.zip"]


def test_the_check_reads_every_label_back(tmp_path):
    ids = [f"t{k}" for k in range(36)]
    write_submission(ids, np.arange(36), tmp_path / "s.zip")
    assert [entry.label for entry in check(tmp_path / "s.zip", ids).values()] == list(LABELS)


def test_the_same_labels_give_the_same_bytes(tmp_path):
    write_submission(IDS, np.array([1, 20, 3]), tmp_path / "one.zip")
    write_submission(IDS, [1, 20, 3], tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


@pytest.mark.parametrize(
    "entry",
    [
        [{"emotion": "ang", "salience": 60}],
        [{"emotion": "ang", "salience": 50}, {"emotion": "neu", "salience": 50}],
        [{"emotion": "joy", "salience": 100}],
        [],
    ],
)
@pytest.mark.parametrize("exists", [True, False])
def test_an_invalid_submission_is_never_written(tmp_path, monkeypatch, entry, exists):
    out = tmp_path / "submission.zip"
    if exists:
        write_submission(IDS, [0, 1, 2], out)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(predict, "to_entry", lambda label: entry)
    with pytest.raises(ValidationError):
        write_submission(IDS, [0, 1, 2], out)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before  # and no temporary file


def test_ids_and_labels_that_do_not_match(tmp_path):
    for ids, labels in ((IDS, [0, 1]), (IDS[:2], [0, 1, 2])):
        with pytest.raises(ValueError):
            write_submission(ids, labels, tmp_path / "s.zip")
    with pytest.raises(ValidationError, match="more than once: test_0001"):
        write_submission(["test_0001", "test_0002", "test_0001"], [0, 1, 2], tmp_path / "s.zip")
    with pytest.raises((ValueError, IndexError)):
        write_submission(IDS, [0, 1, 36], tmp_path / "s.zip")
    with pytest.raises((ValueError, IndexError)):
        write_submission(IDS, [0, 1, -1], tmp_path / "s.zip")  # Python would take the last label
    assert list(tmp_path.iterdir()) == []


def test_paths_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    for out in (tmp_path / "file" / "submission.zip", tmp_path / "folder"):
        with pytest.raises(FileError, match="cannot be written"):
            write_submission(IDS, [0, 1, 2], out)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]
