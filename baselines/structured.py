"""Structured decoding: a posterior over the 36 labels, then the label with the highest expected score.

The metric counts whole labels, and thresholds on six probabilities never ask how likely a whole label
is. Here a small model turns a clip's six log-probabilities z into P(set) over the 16 sets of emotions
and P(relation | pair); both together are a posterior over the 36 labels. Of all labels y the one is
chosen that maximises what the score is expected to gain by it,

    w · P(set of y) + (1 − w) · P(y) / s    for a blend;    w · P(set of y)    for a single,

with s the share of blends and w = 1/2 for the leaderboard's mean of ACC_presence and ACC_salience: over
N clips the first term counts 1/N a right set, the second 1/(sN) a right blend. No other decision can
have a higher expected score under that posterior, since the score is a sum over clips.

The model is a multinomial logistic regression in features that treat all emotions alike (how high the
emotions of a set are, how high the best one outside of it), with corrections by emotion and by set that
are pulled to zero: so symmetric labels share their strength. How hard is chosen by cross-validated log
loss over whole folds, so that no actor is on both sides.

Arrays are as in decode.py; a posterior is (N, 36), its columns in the order of `blemore.labels.LABELS`.
"""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple, Optional, Sequence

import numpy as np
import torch
from tqdm import tqdm

from blemore.errors import Problem, ValidationError, show
from blemore.labels import EMOTIONS, LABELS, PAIRS
from blemore_baselines.dataset import SET_OF_LABEL
from blemore_baselines.decode import to_probabilities
from blemore_baselines.heads import one_thread_each

STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0)  # of the pull to zero
SPECIFIC = 10.0  # how much harder weights than biases are pulled
FLOOR = 1e-12  # a probability of zero has no logarithm

N_SETS, N_PAIRS = len(EMOTIONS) + len(PAIRS), len(PAIRS)
_FIRST, _SECOND = (np.array([EMOTIONS.index(pair[k]) for pair in PAIRS]) for k in (0, 1))
_IN_SET = np.zeros((N_SETS, len(EMOTIONS)), dtype=bool)
_IN_SET[np.arange(len(EMOTIONS)), np.arange(len(EMOTIONS))] = True
_IN_SET[len(EMOTIONS) + np.arange(N_PAIRS)[:, None], np.stack([_FIRST, _SECOND], axis=1)] = True


class Model(NamedTuple):
    """A fitted posterior: its parameters by name, the strength it was fitted with, and the share of blends."""

    parameters: dict[str, np.ndarray]
    strength: float
    share: float


def log_probabilities(scores: Sequence[np.ndarray], names: Sequence[object]) -> np.ndarray:
    """Late fusion for this decoder: the mean (N, 6) of several models' log-probabilities. `names` are for messages."""
    return np.mean([np.log(np.maximum(to_probabilities(one, str(name)), FLOOR)) for one, name in zip(scores, names)], axis=0)


def decide(posterior: np.ndarray, share: float, weight: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """The labels (N,) with the highest expected score, and that expectation (N,).

    share:  of blends among the clips that are scored, in (0, 1]
    weight: of ACC_presence in the score; 1 − weight is ACC_salience's. In [0, 1]
    """
    gain = weight * _set_probabilities(posterior)[:, SET_OF_LABEL]
    gain[:, len(EMOTIONS):] += (1 - weight) * posterior[:, len(EMOTIONS):] / share
    best = gain.argmax(axis=1)
    return best, gain[np.arange(len(gain)), best]


def calibration(posterior: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """How well a posterior (N, 36) tells the labels (N,): log loss (nats) and Brier score (0 to 2), means over clips."""
    truth = np.eye(posterior.shape[1])[labels]
    log_loss = -np.log(np.maximum(posterior[np.arange(len(labels)), labels], FLOOR)).mean()
    return {"log_loss": float(log_loss), "brier": float(((posterior - truth) ** 2).sum(axis=1).mean())}


def _set_probabilities(posterior: np.ndarray) -> np.ndarray:
    """(N, 36) to (N, 16)."""
    pairs = posterior[:, len(EMOTIONS):].reshape(len(posterior), N_PAIRS, -1).sum(axis=2)
    return np.hstack([posterior[:, : len(EMOTIONS)], pairs])


# -------------------------------------------------------------------------- out of fold


class CrossValidated(NamedTuple):
    """Every clip judged by a model that saw nothing of its fold, its strength included; and the model for new clips.

    posterior: (N, 36); shares, strengths: by fold; final: fitted on all clips
    """

    posterior: np.ndarray
    shares: dict[int, float]
    strengths: dict[int, float]
    final: Model


def cross_validate(logs: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> CrossValidated:
    """Nested cross-validation over `folds` (N,): a fold's strength comes from the other folds alone.

    A model without folds f and g tells how a strength does on g, for f's choice, and on f, for g's: so
    the inner loop takes a fit for every two folds, not for every ordered two.

    Raises ValidationError: fewer than three folds, or no blend left without two of them.
    """
    names = [int(fold) for fold in np.unique(folds)]
    if len(names) < 3:
        raise ValidationError(Problem("few-folds", "folds", f"{len(names)} folds; expected at least 3, to choose on some what is judged on another"))
    losses = {fold: np.zeros(len(STRENGTHS)) for fold in names}
    pairs = list(combinations(names, 2))
    with one_thread_each(), tqdm(total=len(pairs) * len(STRENGTHS) + len(names) + 1, desc="structured decoder", unit="fit", disable=None) as progress:

        def fitted(inside: np.ndarray, strength: float, start: Optional[Model] = None) -> Model:
            progress.update()
            return fit(logs[inside], labels[inside], strength, start)

        for f, g in pairs:
            model = None
            for k, strength in enumerate(STRENGTHS):
                model = fitted((folds != f) & (folds != g), strength, start=model)
                for chooser, judged in ((f, folds == g), (g, folds == f)):
                    losses[chooser][k] += judged.sum() * calibration(posterior(model, logs[judged]), labels[judged])["log_loss"]
        found = np.zeros((len(labels), len(LABELS)))
        shares, strengths = {}, {}
        for fold in names:
            strengths[fold] = STRENGTHS[int(losses[fold].argmin())]
            model = fitted(folds != fold, strengths[fold])
            found[folds == fold], shares[fold] = posterior(model, logs[folds == fold]), model.share
        final = fitted(np.ones(len(labels), dtype=bool), STRENGTHS[int(sum(losses.values()).argmin())])
    return CrossValidated(found, shares, strengths, final)


def decide_out_of_fold(result: CrossValidated, folds: np.ndarray, weight: float = 0.5) -> np.ndarray:
    """Each clip's label (N,), with the share of blends that its fold's model was fitted with."""
    predicted = np.zeros(len(folds), dtype=int)
    for fold, share in result.shares.items():
        predicted[folds == fold], _ = decide(result.posterior[folds == fold], share, weight)
    return predicted


# ---------------------------------------------------------------------------- the posterior


def posterior(model: Model, logs: np.ndarray) -> np.ndarray:
    """(N, 36) from log-probabilities (N, 6)."""
    parameters = {name: torch.from_numpy(value) for name, value in model.parameters.items()}
    with torch.no_grad():
        sets, relations = _forward(parameters, _features(logs))
        joint = sets[:, len(EMOTIONS):, None] + relations
        return torch.cat([sets[:, : len(EMOTIONS)], joint.flatten(1)], dim=1).exp().numpy()


def fit(logs: np.ndarray, labels: np.ndarray, strength: float, start: Optional[Model] = None) -> Model:
    """The posterior's penalised maximum likelihood for log-probabilities (N, 6) and labels (N,).

    The likelihood has one maximum; `start` is a model near it, which saves steps.

    Raises ValidationError: there is no clip, or no blend among them.
    """
    blend = labels >= len(EMOTIONS)
    if not blend.any():
        raise ValidationError(Problem("no-blends", "labels", f"{len(labels)} clips without a blend; expected some to learn relations from"))
    features = _features(logs)
    rows, sets = torch.arange(len(labels)), torch.from_numpy(SET_OF_LABEL[labels])
    blends, relations = torch.from_numpy(np.flatnonzero(blend)), torch.from_numpy((labels[blend] - len(EMOTIONS)) % 3)
    parameters = {
        name: torch.tensor(start.parameters[name]) if start else torch.full(shape, centre, dtype=torch.float64)
        for name, (shape, centre, _) in _PARAMETERS.items()
    }
    for parameter in parameters.values():
        parameter.requires_grad_()
    optimizer = torch.optim.LBFGS(parameters.values(), max_iter=200, tolerance_grad=1e-4, tolerance_change=1e-9, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        by_set, by_relation = _forward(parameters, features)
        likelihood = by_set[rows, sets].sum() + by_relation[blends, sets[blends] - len(EMOTIONS), relations].sum()
        penalty = sum(pull * (parameters[name] - centre).square().sum() for name, (_, centre, pull) in _PARAMETERS.items())
        total = strength * penalty - likelihood
        total.backward()
        return total

    optimizer.step(loss)
    return Model({name: value.detach().numpy() for name, value in parameters.items()}, strength, float(blend.mean()))


def to_dict(model: Model) -> dict:
    """The model in plain numbers, for JSON; `from_dict` gives it back to the last bit."""
    return {
        "strength": model.strength, "share_of_blends": model.share,
        "parameters": {name: model.parameters[name].tolist() for name in _PARAMETERS},
    }


def from_dict(told: object, where: str = "decoder") -> Model:
    """The model that `to_dict` told. `where` is for messages.

    Raises ValidationError, a ValueError: a number is missing, unknown, not finite or out of range, or a
    parameter has another shape; every one is named.
    """
    told = told if isinstance(told, dict) else {}
    parameters = told.get("parameters") if isinstance(told.get("parameters"), dict) else {}
    wanted = {"strength": (), "share_of_blends": (), **{name: shape for name, (shape, _, _) in _PARAMETERS.items()}}
    given = {name: told.get(name) for name in ("strength", "share_of_blends")} | parameters
    problems = [Problem("bad-decoder", where, f"{show(name)} is unknown; expected the parameters of structured decoding alone") for name in given if name not in wanted]
    found = {}
    for name, shape in wanted.items():
        try:
            value = np.array(given.get(name))
        except ValueError:  # rows of several lengths
            value = np.array(None)
        found[name] = value.astype(np.float64) if value.dtype.kind in "iuf" else np.array(np.nan)
        if found[name].shape != shape or not np.isfinite(found[name]).all():
            problems.append(Problem("bad-decoder", where, f"{name}: found {show(given.get(name))}; expected finite numbers of shape {shape}"))
    if not problems and not (found["strength"] > 0 and 0 < found["share_of_blends"] <= 1):
        problems.append(Problem("bad-decoder", where, f"strength {found['strength']:g}, share_of_blends {found['share_of_blends']:g}; expected above 0, and in (0, 1]"))
    if problems:
        raise ValidationError([*problems[:-1], problems[-1]._replace(hint="Was the file copied whole? Copy it again, or fit again.")])
    strength, share = float(found.pop("strength")), float(found.pop("share_of_blends"))
    return Model(found, strength, share)


# name → shape, centre, how hard it is pulled there (times the strength)
_PARAMETERS = {
    "single": ((2,), 0.5, 0.01),  # for a single: its emotion; the best other one
    "pair": ((3,), 0.3, 0.01),  # for a pair: the higher, the lower, the best other one
    "is_pair": ((), 0.0, 0.01),
    "set_bias": ((N_SETS,), 0.0, 1.0),
    "set_weights": ((N_SETS, len(EMOTIONS)), 0.0, SPECIFIC),
    "lead": ((), 0.3, 0.01),  # of the first emotion over the second, toward its dominance
    "equal": ((), 0.0, 0.01),
    "apart": ((), 0.0, 0.01),  # how far apart the two are, against 50/50
    "dominance": ((len(EMOTIONS),), 0.0, SPECIFIC),  # of an emotion, whatever it is blended with
    "pair_weights": ((N_PAIRS, len(EMOTIONS)), 0.0, SPECIFIC),
}


class _Features(NamedTuple):
    """What the model sees of N clips."""

    z: torch.Tensor  # (N, 6)
    high: torch.Tensor  # (N, 16): the highest of a set's emotions
    low: torch.Tensor  # (N, 10): the lower of a pair's
    other: torch.Tensor  # (N, 16): the highest outside of the set
    lead: torch.Tensor  # (N, 10): the first of a pair over the second


def _features(logs: np.ndarray) -> _Features:
    z = np.ascontiguousarray(logs, dtype=np.float64)
    first, second = z[:, _FIRST], z[:, _SECOND]
    high = np.hstack([z, np.maximum(first, second)])
    other = np.where(_IN_SET, -np.inf, z[:, None, :]).max(axis=2)
    return _Features(*(torch.from_numpy(array) for array in (z, high, np.minimum(first, second), other, first - second)))


def _forward(p: dict[str, torch.Tensor], features: _Features) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of the sets (N, 16), and of each pair's relations (N, 10, 3)."""
    z, high, low, other, lead = features
    n = len(EMOTIONS)
    singles = p["single"][0] * high[:, :n] + p["single"][1] * other[:, :n]
    pairs = p["pair"][0] * high[:, n:] + p["pair"][1] * low + p["pair"][2] * other[:, n:] + p["is_pair"]
    sets = torch.cat([singles, pairs], dim=1) + p["set_bias"] + z @ p["set_weights"].T
    toward = p["lead"] * lead + p["dominance"][_FIRST] - p["dominance"][_SECOND] + z @ p["pair_weights"].T
    equal = p["equal"] - p["apart"] * lead.abs()
    return torch.log_softmax(sets, dim=1), torch.log_softmax(torch.stack([toward, equal, -toward], dim=2), dim=2)
