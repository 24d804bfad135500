"""Hand-written run folders and artefacts of version 0.1: they still resume, are read, and predict."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from blemore.errors import ValidationError
from blemore.labels import LABELS
from blemore_baselines import train
from blemore_baselines.decoding.decoders import read
from blemore_baselines.decoding.scores import softmax
from blemore_baselines.predict import decode, predict

VERSIONS = {"blemore": "0.1.0", "python": "3.11.7", "numpy": "2.4.6", "torch": "2.13.0+cpu"}
RECIPE = {
    "learning_rate": 0.0015,
    "weight_decay": 0.03,
    "batch_size": 32,
    "epochs": 9,
    "final_epochs": 9,
    "span": 1024,
}

# ------------------------------------------------------------------------------ run folders


def config(dataset, features, weight):
    """config.json of `train --preset fast --head linear`, with the keys and values of 0.1."""
    return {
        "method": "aggregate",
        "head": "linear",
        "preset": "fast",
        "recipe": RECIPE,
        "test_protocol": "pooled",
        "structured_weight": weight,  # null: thresholds
        "seed": 0,
        "features": [
            {
                "encoder": "sound",
                "statistics": ["mean", "std", "p10", "p25", "p50", "p75", "p90"],
                "dim": 35,
                "path": "/elsewhere/sound",
                "digest": features.digest,
            }
        ],
        "train": {"clips": 36, "digest": dataset.digest},
        "versions": VERSIONS,
    }


def resume(tiny, out, **decoder):
    features = tiny.read(tiny.sound)
    return train.train(
        tiny.dataset,
        [features],
        ["sound"],
        method="aggregate",
        head="linear",
        preset="fast",
        seed=0,
        metadata=tiny.train,
        out=out,
        **decoder,
    )


DECODERS = [
    (None, {}),
    (None, {"decoder": "thresholds"}),
    (0.5, {"decoder": "structured"}),
    (0.8, {"decoder": "structured", "weight": 0.8}),
]


@pytest.mark.parametrize(("weight", "decoder"), [DECODERS[0], DECODERS[-1]])
def test_an_interrupted_run_resumes(tiny, tmp_path, weight, decoder):
    before = json.dumps(config(tiny.dataset, tiny.read(tiny.sound), weight))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(before)
    metrics = resume(tiny, tmp_path / "run", **decoder)
    assert ("structured" in metrics) == (weight is not None)
    assert weight is None or metrics["structured"]["weight"] == weight
    assert (tmp_path / "run" / "config.json").read_text() == before


@pytest.mark.parametrize(("weight", "decoder"), DECODERS)
def test_a_finished_run_does_not_change(tiny, tmp_path, weight, decoder):
    (tmp_path / "config.json").write_text(json.dumps(config(tiny.dataset, tiny.read(tiny.sound), weight)))
    (tmp_path / "metrics.json").write_text('{"published": {}, "nested": {"score": 0.25}, "final": {"alpha": 0.1}}')
    metrics = resume(tiny, tmp_path, **decoder)
    assert metrics == {"published": {}, "nested": {"score": 0.25}, "final": {"alpha": 0.1}}


@pytest.mark.parametrize(
    ("weight", "decoder", "says"),
    [
        (None, {"decoder": "structured"}, "another structured_weight: null; now 0.5"),
        (0.8, {}, "another structured_weight: 0.8; now null"),
        (0.8, {"decoder": "structured"}, "another structured_weight: 0.8; now 0.5"),
    ],
)
def test_a_run_with_another_decoder_is_refused(tiny, tmp_path, weight, decoder, says):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(json.dumps(config(tiny.dataset, tiny.read(tiny.sound), weight)))
    with pytest.raises(ValidationError, match=says):
        resume(tiny, tmp_path / "run", **decoder)


# -------------------------------------------------------------------------------- artefacts

# Two columns, from which the head makes logits: x for ang, y for disg, 0 for hap, and −20 for the others.
FEATURES = "filename,x,y\ntest_0001,3.0,2.9\ntest_0002,1.0,2.5\ntest_0003,-1.0,-2.0\n"
CLIPS = ["test_0001", "test_0002", "test_0003"]
WEIGHT = np.array([[1, 0], [0, 1], [0, 0], [0, 0], [0, 0], [0, 0]], dtype=np.float32)
BIAS = np.array([0, 0, -20, 0, -20, -20], dtype=np.float32)
LOGITS = np.array([[3, 2.9, -20, 0, -20, -20], [1, 2.5, -20, 0, -20, -20], [-1, -2, -20, 0, -20, -20]])


def artefact(folder, decoder):
    """Writes model.json and model.safetensors of a run on a table, with the keys and values of 0.1."""
    folder.mkdir()
    spec = {
        "head": "linear",
        "method": "aggregate",
        "features": [{"columns": ["x", "y"], "dim": 2, "path": "train.csv", "digest": "02a3cadf71a980c2"}],
        "test_protocol": "pooled",
        "recipe": RECIPE,
        "seed": 0,
        "versions": VERSIONS,
        "emotions": ["ang", "disg", "fea", "hap", "sad", "neu"],
        "decoder": decoder,
        "folds": [0, 1, 2],
        "epochs": 9,
    }
    (folder / "model.json").write_text(json.dumps(spec))
    tensors = {"head.weight": WEIGHT, "head.bias": BIAS, "scaler.mean": np.zeros(2), "scaler.scale": np.ones(2)}
    save_file(tensors, folder / "model.safetensors")
    (folder / "test.csv").write_text(FEATURES)
    return folder


def predicted(model):
    logits, labels = predict(model, [model / "test.csv"], CLIPS)
    assert logits == pytest.approx(LOGITS, abs=1e-5)
    assert labels.tolist() == decode(model, logits).labels.tolist()
    return [str(LABELS[label]) for label in labels], decode(model, logits).expected


def test_an_artefact_that_decodes_by_thresholds(tmp_path):
    # Probabilities of the larger two: .51 and .46; .78 and .17; .67 (hap) and .25
    model = artefact(tmp_path / "run", {"name": "thresholds", "alpha": 0.2, "beta": 0.1})
    assert predicted(model) == (["ang+disg 50/50", "disg", "ang+hap 30/70"], None)


# A posterior with one correction: pairs are practically impossible, and the logit of a single is its emotion's.
PARAMETERS = {
    "single": [1.0, 0.0],
    "pair": [0.0, 0.0, 0.0],
    "is_pair": -1000.0,
    "set_bias": [0.0] * 16,
    "set_weights": [[0.0] * 6] * 16,
    "lead": 0.0,
    "equal": 0.0,
    "apart": 0.0,
    "dominance": [0.0] * 6,
    "pair_weights": [[0.0] * 6] * 10,
}


def structured(**parameters):
    """A structured decoder in model.json, without a spread, and with weights per emotion for relations."""
    return {
        "name": "structured",
        "weight": 0.8,
        "strength": 3.0,
        "share_of_blends": 0.5,
        "inverse_temperatures": [2.0],
        "weights": [1.0],
        "parameters": {**PARAMETERS, **parameters},
    }


def test_relations_still_use_their_weights_per_emotion(tmp_path):
    # Only pairs, all equal except ang+disg, the seventh set. Its relations, at twice the log-probabilities z:
    #   log-odds of 70/30 ± [v(ang) − v(disg) + V·z] = ±[1.5 − 0.5 + 0.25 z(ang)],   of 50/50 0.3
    bias, weights = [0.0] * 6 + [9.0] + [0.0] * 9, [[0.25, 0, 0, 0, 0, 0]] + [[0.0] * 6] * 9
    decoder = structured(
        is_pair=100.0, set_bias=bias, equal=0.3, dominance=[1.5, 0.5, 0, 0, 0, 0], pair_weights=weights
    )
    names, expected = predicted(artefact(tmp_path / "run", decoder))
    z = 2 * LOGITS - np.log(np.exp(2 * LOGITS).sum(axis=1, keepdims=True))
    lean = 1 + 0.25 * z[:, 0]
    odds = np.exp([lean, np.full(3, 0.3), -lean])
    relations = odds / odds.sum(axis=0)
    pair = np.exp(9) / (np.exp(9) + 9)
    assert names == [f"ang+disg {('70/30', '50/50', '30/70')[k]}" for k in relations.argmax(axis=0)]
    assert len(set(names)) > 1
    assert expected == pytest.approx(0.8 * pair + 0.2 * pair * relations.max(axis=0) / 0.5, abs=1e-5)


def test_a_decoder_without_a_spread_does_not_divide_scores():
    logits = 3 * np.random.default_rng(0).normal(size=(300, 6))
    answers = read(structured())(logits)
    assert answers.expected == pytest.approx(0.8 * softmax(2 * logits).max(axis=1)) and (answers.excess == 1).all()


def test_an_artefact_with_a_structured_decoder(tmp_path):
    names, expected = predicted(artefact(tmp_path / "run", structured()))
    assert names == ["ang", "disg", "hap"]
    # At twice the logits; the expected score of a single is w · P(set).
    probabilities = np.exp(2 * LOGITS) / np.exp(2 * LOGITS).sum(axis=1, keepdims=True)
    assert expected == pytest.approx(0.8 * probabilities.max(axis=1), abs=1e-5)
