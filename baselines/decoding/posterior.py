"""A posterior over the 36 labels, from the log-probabilities of one or more models.

Several models are pooled first. Each model's log-probabilities are multiplied by its inverse temperature, which makes
them as confident as they are accurate. They are then averaged over the models that know the clip, weighted by how much
each model knows, and normalised again. How sharp a model is does not matter, as long as its new scores are as sharp as
those of the fit; if the new scores are spread wider, they are first divided by the excess (`excess`).

From a clip's pooled log-probabilities z, a small model computes P(set) over the 16 sets of emotions and
P(relation | pair); together they give the posterior. The model is a multinomial logistic regression. Its main features
treat all emotions alike (the values of a set's emotions, and the highest value outside the set). Corrections per
emotion and per set are pulled to zero, so symmetric labels share strength.

`logs` are log-probabilities (N, 6) with emotions in index order, or (M, N, 6) for M models; a row of NaN is a clip that
the model does not know. `labels` are (N,) indices into `blemore.labels.LABELS`. A posterior is (N, 36), with columns
in the order of LABELS.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from blemore.errors import Problem, ValidationError, show
from blemore.labels import EMOTIONS, LABELS, PAIRS
from blemore_baselines.dataset import IS_BLEND, N_RELATIONS, N_SETS, RELATION_OF_LABEL, SET_OF_LABEL, TARGETS
from blemore_baselines.decoding.arrays import demand_labels, demand_range
from blemore_baselines.decoding.scores import log_softmax, softmax, to_log_probabilities
from blemore_baselines.engines import one_thread_each

CHUNK = 4096  # clips at a time, so the data stays in the processor's cache
SPECIFIC = 10.0  # the pull on the sets' weights, relative to the pull on their biases
ENOUGH = 100  # clips needed to estimate how sharp a model's scores are
ROUNDING = 1e-12  # relative to a sum's terms; a smaller sum counts as zero
N_PAIRS = len(PAIRS)

_FIRST, _SECOND = (np.array([EMOTIONS.index(pair[k]) for pair in PAIRS]) for k in (0, 1))
_IN_SET = np.zeros((N_SETS, len(EMOTIONS)), dtype=bool)
_IN_SET[np.arange(len(EMOTIONS)), np.arange(len(EMOTIONS))] = True
_IN_SET[len(EMOTIONS) + np.arange(N_PAIRS)[:, None], np.stack([_FIRST, _SECOND], axis=1)] = True


# --------------------------------------------------------------------------- the parameters


class _Parameter(NamedTuple):
    """A parameter's shape, the value that it is pulled to, and how hard (a multiple of the strength)."""

    shape: tuple[int, ...]
    centre: float
    pull: float

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))


_PARAMETERS = {
    "single": _Parameter((2,), 0.5, 0.01),  # for a single emotion: its value; the best other one
    "pair": _Parameter((3,), 0.3, 0.01),  # for a pair: the higher, the lower, the best other one
    "is_pair": _Parameter((), 0.0, 0.01),
    "set_bias": _Parameter((N_SETS,), 0.0, 1.0),
    "set_weights": _Parameter((N_SETS, len(EMOTIONS)), 0.0, SPECIFIC),
    "lead": _Parameter((), 0.3, 0.01),  # of the first emotion over the second; favours its dominance
    "dominance": _Parameter((len(EMOTIONS),), 0.0, 1.0),  # of an emotion, in any blend
    "equal": _Parameter((), 0.0, 0.01),
    "apart": _Parameter((), 0.0, 0.01),  # the distance between the two; counts against 50/50
}
# Up to version 0.2, relations also had weights per emotion. Models fitted with them can still be read.
_BEFORE = {"pair_weights": (N_PAIRS, len(EMOTIONS))}
# The position of each parameter in the flat vector (127,), and the vector's centre and pull.
_ENDS = np.cumsum([parameter.size for parameter in _PARAMETERS.values()])
_COLUMNS = {
    name: torch.arange(end - parameter.size, end).reshape(parameter.shape)
    for (name, parameter), end in zip(_PARAMETERS.items(), _ENDS)
}
_SHARED_BY_SETS = torch.cat([_COLUMNS[name].reshape(-1) for name in ("single", "pair", "is_pair")])
_OF_EACH_SET = torch.cat([_COLUMNS["set_bias"][:, None], _COLUMNS["set_weights"]], dim=1)
_SHARED_BY_RELATIONS = torch.cat([_COLUMNS[name].reshape(-1) for name in ("lead", "equal", "apart", "dominance")])
_CENTRE = torch.cat(
    [torch.full((parameter.size,), parameter.centre, dtype=torch.float64) for parameter in _PARAMETERS.values()]
)
_PULL = torch.cat(
    [torch.full((parameter.size,), parameter.pull, dtype=torch.float64) for parameter in _PARAMETERS.values()]
)


class Model(NamedTuple):
    """A fitted posterior.

    inverse_temperatures: (M,)
    weights:              (M,) how far each model's log-probabilities vary over the emotions at that temperature (root
                          mean square), as shares of the sum; all 0 if no model knows anything
    parameters:           by name
    strength:             of the pull to zero in the fit
    share:                of blends among the clips of the fit
    spread:               (M,) how far each model's log-probabilities of these clips vary over the emotions (root mean
                          square); None for models from older versions, which did not store it
    """

    inverse_temperatures: np.ndarray
    weights: np.ndarray
    parameters: dict[str, np.ndarray]
    strength: float
    share: float
    spread: np.ndarray | None = None


def _flat(model: Model) -> torch.Tensor:
    """The parameters (127,), without those in _BEFORE."""
    return torch.from_numpy(np.concatenate([np.ravel(model.parameters[name]) for name in _PARAMETERS]))


# ------------------------------------------------------------------- one model's scores, or several models'


def log_probabilities(scores: Sequence[np.ndarray], names: Sequence[object]) -> np.ndarray:
    """Several models' logits or probabilities (N, 6) as log-probabilities (M, N, 6). `names` are for messages.

    A row of NaN (a clip that the model does not know) stays NaN.

    Raises ValidationError: see `blemore_baselines.decoding.to_probabilities`; ValueError: the models have different
    numbers of clips.
    """
    return np.stack([_log_probabilities(np.asarray(own), str(name)) for own, name in zip(scores, names, strict=True)])


def _log_probabilities(scores: np.ndarray, name: str) -> np.ndarray:
    unknown = np.isnan(scores).all(axis=1) if scores.ndim == 2 and scores.size else np.zeros(len(scores), dtype=bool)
    if not unknown.any():
        return to_log_probabilities(scores, name)
    logs = np.full(scores.shape, np.nan)
    logs[~unknown] = to_log_probabilities(scores[~unknown], name)
    return logs


def by_model(logs: np.ndarray, models: int | None = None) -> np.ndarray:
    """The log-probabilities as (M, N, 6), checked to be of `models` models. ValidationError: see `pool`."""
    logs = np.asarray(logs, dtype=np.float64)
    if logs.ndim not in (2, 3) or logs.shape[-1] != len(EMOTIONS):
        raise _bad_logs("wrong-shape", f"shape {logs.shape}; expected ([models,] clips, {len(EMOTIONS)})")
    logs = logs[np.newaxis] if logs.ndim == 2 else logs
    unknown = np.isnan(logs).all(axis=2)
    if not np.isfinite(logs[~unknown]).all():
        expected = "expected finite numbers, or NaN throughout where a model does not know a clip"
        raise _bad_logs("not-finite", f"found NaN or Infinity; {expected}")
    if models not in (None, len(logs)):
        message = f"{len(logs)} models; expected {models}, the number that the decoder was fitted on"
        raise _bad_logs("wrong-models", message)
    nowhere = int(unknown.all(axis=0).sum())
    if nowhere:
        message = f"{nowhere:,} clips are NaN in every model; expected scores from at least one"
        raise _bad_logs("missing-clips", message)
    return logs


def _bad_logs(code: str, message: str) -> ValidationError:
    return ValidationError(Problem(code, "log-probabilities", message))


def pool(logs: np.ndarray, inverse_temperatures: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """A logarithmic opinion pool (Genest and Zidek 1986): log-probabilities (N, 6) from those of M models (M, N, 6).
    Each model's are multiplied by its inverse temperature (M,); the result is their weighted mean, normalised.

    The weights (M,) are scaled to sum to 1 over the models that know a clip, so a missing model does not lower
    confidence. If no weight is above 0, all emotions are equally likely.

    Raises ValidationError: wrong shape, a number that is not finite, or a clip that no model knows.
    """
    logs = by_model(logs, len(inverse_temperatures))
    knows = ~np.isnan(logs[:, :, 0])
    total = weights @ knows
    scales = np.divide(1, total, out=np.zeros(len(total)), where=total > 0)
    logs = logs if knows.all() else np.where(knows[:, :, None], logs, 0)
    return log_softmax(scales[:, None] * np.tensordot(weights * inverse_temperatures, logs, axes=1))


def excess(model: Model, logs: np.ndarray) -> np.ndarray:
    """How much wider each model's log-probabilities (N, 6) or (M, N, 6) are spread than those of the fit: (M,), at
    least 1.

    Scores of new clips are often sharper than out-of-fold ones, because their model was trained on more clips; the
    decoder would mistake that for confidence. Scores that are less sharp are left alone, because they may be worse.
    Models that know fewer than ENOUGH of the clips also get 1: the spread of few clips varies by chance.

    Raises ValidationError: see `pool`.
    """
    logs = by_model(logs, len(model.inverse_temperatures))
    if model.spread is None:
        return np.ones(len(logs))
    ratios = np.divide(_spread(logs), model.spread, out=np.ones(len(logs)), where=model.spread > 0)
    return np.where((~np.isnan(logs[:, :, 0])).sum(axis=1) >= ENOUGH, np.maximum(ratios, 1), 1)


def _spread(logs: np.ndarray) -> np.ndarray:
    """How far log-probabilities (M, N, 6) vary over the emotions, (M,): root mean square over clips; 0 if none."""
    knows = ~np.isnan(logs[:, :, 0])
    return np.sqrt(np.where(knows, logs.var(axis=2), 0).sum(axis=1) / np.maximum(knows.sum(axis=1), 1))


def inverse_temperature(logs: np.ndarray, labels: np.ndarray) -> float:
    """The a, at least 0, that minimises the cross-entropy between softmax(a · logs), logs (N, 6), and the soft labels.

    Temperature scaling (Guo et al. 2017, On Calibration of Modern Neural Networks). Below 1, the model was too
    confident; at 0 it knows nothing. Found by bisection of the slope, which rises with a. If every label is right, the
    slope never reaches zero, and the search ends where rounding hides it.
    """
    logs = np.asarray(logs, dtype=np.float64)
    knows = ~np.isnan(logs[:, 0])
    z = logs[knows] - logs[knows].mean(axis=1, keepdims=True)
    target, nothing = float((TARGETS[labels[knows]] * z).sum()), ROUNDING * np.abs(z).sum()

    def falls(a: float) -> bool:
        return float((softmax(a * z) * z).sum()) - target < -nothing

    if not falls(0):
        return 0.0
    low, high = 0.0, 1 / np.abs(z).max()
    while falls(high):
        low, high = high, 2 * high
    for _ in range(25):
        middle = (low + high) / 2
        low, high = (middle, high) if falls(middle) else (low, middle)
    return float(high)


# ------------------------------------------------------------------------------ the posterior


def posterior(model: Model, logs: np.ndarray) -> np.ndarray:
    """(N, 36) from log-probabilities (N, 6) or (M, N, 6); rows sum to 1. Through `excess`, a row depends on all clips.

    Raises ValidationError: see `pool`.
    """
    z, parameters = pool(logs, model.inverse_temperatures / excess(model, logs), model.weights), _flat(model)
    chances = np.empty((len(z), len(LABELS)))
    with one_thread_each():
        for start in range(0, len(z), CHUNK):
            part = z[start : start + CHUNK]
            sets = _set_regression(part).log_chances(parameters)
            joint = [
                sets[len(EMOTIONS) + pair]
                + _relation_regression(part, np.full(len(part), pair)).log_chances(parameters, lean)
                for pair, lean in enumerate(_leans(model, part))
            ]
            chances[start : start + CHUNK] = torch.cat([sets[: len(EMOTIONS)], *joint]).exp_().T.numpy()
    return chances


def set_probabilities(posterior: np.ndarray) -> np.ndarray:
    """The probabilities (N, 16) of the sets, single emotions first and then pairs, from a posterior (N, 36)."""
    pairs = posterior[:, len(EMOTIONS) :].reshape(len(posterior), N_PAIRS, -1).sum(axis=2)
    return np.hstack([posterior[:, : len(EMOTIONS)], pairs])


class _Regression(NamedTuple):
    """A multinomial logistic regression of C classes on N clips.

    shared: (C, N, K) features whose parameters all classes share, at the positions `shared_columns` (K,)
    own:    (N, Q) features for which each class has parameters, at the positions `own_columns` (C, Q)
    """

    shared: torch.Tensor
    shared_columns: torch.Tensor
    own: torch.Tensor
    own_columns: torch.Tensor

    @property
    def columns(self) -> torch.Tensor:
        """All positions (K + C·Q,)."""
        return torch.cat([self.shared_columns, self.own_columns.reshape(-1)])

    def log_chances(self, theta: torch.Tensor, offset: torch.Tensor | float = 0.0) -> torch.Tensor:
        """Log-probabilities (C, N) of the classes, with an offset added to the logits."""
        logits = self.shared @ theta[self.shared_columns] + theta[self.own_columns] @ self.own.T
        return torch.log_softmax(logits + offset, dim=0)


def _set_regression(logs: np.ndarray) -> _Regression:
    """Over the 16 sets, from pooled log-probabilities (N, 6)."""
    n, z = len(EMOTIONS), torch.from_numpy(logs)
    by_emotion = z.T.contiguous()
    first, second = by_emotion[_FIRST], by_emotion[_SECOND]
    other = torch.stack([by_emotion[outside].amax(dim=0) for outside in ~_IN_SET])  # the highest outside the set
    shared = torch.zeros(N_SETS, len(z), len(_SHARED_BY_SETS), dtype=torch.float64)
    shared[:n, :, 0], shared[:n, :, 1] = by_emotion, other[:n]
    shared[n:, :, 2], shared[n:, :, 3] = torch.maximum(first, second), torch.minimum(first, second)
    shared[n:, :, 4], shared[n:, :, 5] = other[n:], 1
    own = torch.cat([torch.ones(len(z), 1, dtype=torch.float64), z], dim=1)
    return _Regression(shared, _SHARED_BY_SETS, own, _OF_EACH_SET)


def _relation_regression(logs: np.ndarray, pairs: np.ndarray) -> _Regression:
    """Over the relations of a pair (N,) per clip, from pooled log-probabilities (N, 6)."""
    rows = np.arange(len(logs))
    lead = torch.from_numpy(logs[rows, _FIRST[pairs]] - logs[rows, _SECOND[pairs]])
    shared = torch.zeros(N_RELATIONS, len(logs), len(_SHARED_BY_RELATIONS), dtype=torch.float64)
    shared[0, :, 0] = lead
    shared[0, rows, 3 + _FIRST[pairs]], shared[0, rows, 3 + _SECOND[pairs]] = 1.0, -1.0
    shared[1, :, 1], shared[1, :, 2] = 1, -lead.abs()
    shared[2] = -shared[0]
    nothing = torch.zeros(len(logs), 0, dtype=torch.float64)
    return _Regression(shared, _SHARED_BY_RELATIONS, nothing, torch.zeros(N_RELATIONS, 0, dtype=torch.int64))


def _leans(model: Model, z: np.ndarray) -> Sequence[torch.Tensor | float]:
    """The terms (3, N) that the parameters in _BEFORE add to each pair's relation logits; 0 without them."""
    if not _BEFORE.keys() <= model.parameters.keys():
        return [0.0] * N_PAIRS
    lean = torch.from_numpy(model.parameters["pair_weights"]) @ torch.from_numpy(z).T
    return list(lean[:, None] * torch.tensor([[1.0], [0.0], [-1.0]]))


# ------------------------------------------------------------------------------- the fit


def fit(logs: np.ndarray, labels: np.ndarray, strength: float, start: Model | None = None) -> Model:
    """The penalised maximum-likelihood fit to log-probabilities (N, 6) or (M, N, 6) and labels (N,).

    strength: of the pull to zero, above 0
    start:    a model fitted on the same clips with another strength; its temperatures, which do not depend on the
              strength, are kept, and its parameters save steps: the maximum is unique

    Raises ValidationError: see `pool`; also invalid labels, another number of labels than clips, no blends, or a
    strength that is not above 0.
    """
    logs = by_model(logs)
    labels = demand_labels(labels, logs.shape[1])
    demand_range(strength, "strength", 0, open_below=True)
    blend = IS_BLEND[labels]
    if not blend.any():
        message = f"found no blends among {len(labels)} clips; expected some, to learn relations from"
        raise ValidationError(Problem("no-blends", "labels", message))
    scales = start.inverse_temperatures if start else np.array([inverse_temperature(log, labels) for log in logs])
    spread = _spread(logs)
    weights = scales * spread / ((scales * spread).sum() or 1)
    with one_thread_each():
        theta = _minimise(_flat(start) if start else _CENTRE, _terms(pool(logs, scales, weights), labels), strength)
    parameters = {name: theta[columns].numpy() for name, columns in _COLUMNS.items()}
    return Model(scales, weights, parameters, strength, float(blend.mean()), spread)


class _Term(NamedTuple):
    """A factor of the likelihood: a regression, and the true class of each of its clips (N,)."""

    regression: _Regression
    truth: torch.Tensor


def _terms(z: np.ndarray, labels: np.ndarray) -> list[_Term]:
    """A regression over the sets, and one over the relations on the clips that are blends."""
    blend = IS_BLEND[labels]
    sets, relations = SET_OF_LABEL[labels], RELATION_OF_LABEL[labels[blend]]
    return [
        _Term(_set_regression(z), torch.from_numpy(sets)),
        _Term(_relation_regression(z[blend], sets[blend] - len(EMOTIONS)), torch.from_numpy(relations)),
    ]


def _minimise(theta: torch.Tensor, terms: list[_Term], strength: float) -> torch.Tensor:
    """Newton's method; steps are halved until the loss falls enough (Nocedal and Wright 2006, section 3.1)."""
    now = _loss(theta, terms, strength)
    for _ in range(100):
        step = torch.linalg.solve(now.hessian, now.gradient)
        promise = float(now.gradient @ step)
        if promise < 1e-9:  # nats: twice the remaining gain
            break
        length = 1.0
        ahead = _loss(theta - step, terms, strength)
        while ahead.value > now.value - 1e-4 * length * promise and length > 1e-6:
            length /= 2
            ahead = _loss(theta - length * step, terms, strength)
        theta, now = theta - length * step, ahead
    return theta


class _Loss(NamedTuple):
    value: float
    gradient: torch.Tensor
    hessian: torch.Tensor


def _loss(theta: torch.Tensor, terms: list[_Term], strength: float) -> _Loss:
    """The penalised negative log-likelihood: a sum over regressions."""
    away, pull = theta - _CENTRE, strength * _PULL
    value, gradient, hessian = float(pull @ away.square()), 2 * pull * away, torch.diag(2 * pull)
    for term in terms:
        columns, part = term.regression.columns, _negative_log_likelihood(term, theta)
        value += part.value
        gradient[columns] += part.gradient
        hessian[columns[:, None], columns] += part.hessian
    return _Loss(value, gradient, hessian)


def _negative_log_likelihood(term: _Term, theta: torch.Tensor) -> _Loss:
    """Of the P parameters at the regression's columns: the gradient is (P,) and the Hessian (P, P).

    The Hessian is a sum over clips: the covariance of the features under the probabilities of the classes.
    """
    truth, shared, own = term.truth, term.regression.shared, term.regression.own
    _, n_clips, n_shared = shared.shape
    rows, logs = torch.arange(n_clips), term.regression.log_chances(theta)
    chances = logs.exp()
    residual = chances.clone()
    residual[truth, rows] -= 1
    gradient = torch.cat([residual.reshape(-1) @ shared.reshape(-1, n_shared), (residual @ own).reshape(-1)])

    weighted = chances[:, :, None] * shared  # (C, N, K)
    mean = torch.cat([weighted.sum(dim=0), (chances.T[:, :, None] * own[:, None]).reshape(n_clips, -1)], dim=1)
    hessian = -mean.T @ mean
    hessian[:n_shared, :n_shared] += weighted.reshape(-1, n_shared).T @ shared.reshape(-1, n_shared)
    mixed = (weighted.transpose(1, 2) @ own).transpose(0, 1).reshape(n_shared, -1)
    hessian[:n_shared, n_shared:] += mixed
    hessian[n_shared:, :n_shared] += mixed.T
    squares = (own.T * chances[:, None]) @ own  # (C, Q, Q)
    hessian[n_shared:, n_shared:] += torch.block_diag(*squares)
    return _Loss(-float(logs[truth, rows].sum()), gradient, hessian)


# ------------------------------------------------------------------------------------ JSON


def to_dict(model: Model) -> dict:
    """The model as plain numbers, for JSON; `from_dict` restores it exactly."""
    return {
        "strength": model.strength,
        "share_of_blends": model.share,
        "inverse_temperatures": model.inverse_temperatures.tolist(),
        "weights": model.weights.tolist(),
        **({} if model.spread is None else {"spread": model.spread.tolist()}),
        "parameters": {name: value.tolist() for name, value in model.parameters.items()},
    }


def from_dict(data: object, where: str = "decoder") -> Model:
    """The model that `to_dict` wrote; other keys are ignored. `where` is for messages.

    Raises ValidationError, a ValueError: a number is missing, not finite or out of range, or a parameter is unknown or
    has the wrong shape. Every problem is listed.
    """
    values = data if isinstance(data, dict) else {}
    parameters = values.get("parameters")
    parameters = parameters if isinstance(parameters, dict) else {}
    expected = {name: parameter.shape for name, parameter in _PARAMETERS.items()}
    expected |= _BEFORE if _BEFORE.keys() & parameters.keys() else {}
    problems = [
        Problem("bad-decoder", where, f"{show(name)} is unknown; expected only structured decoding's parameters")
        for name in parameters
        if name not in expected
    ]

    def read(name: str, value: object, shape: tuple[int, ...]) -> np.ndarray:
        array = _numbers(value)
        if array.shape != shape or not np.isfinite(array).all():
            message = f"{name}: found {show(value)}; expected finite numbers of shape {shape}"
            problems.append(Problem("bad-decoder", where, message))
        return array

    by_model = values.get("inverse_temperatures")
    models = (max(len(by_model), 1) if isinstance(by_model, list) else 1,)
    shapes = {"strength": (), "share_of_blends": (), "inverse_temperatures": models, "weights": models}
    strength, share, scales, weights = (read(name, values.get(name), shape) for name, shape in shapes.items())
    spread = read("spread", values["spread"], models) if "spread" in values else None
    arrays = {name: read(name, parameters.get(name), shape) for name, shape in expected.items()}
    by_models = [scales, weights, *([] if spread is None else [spread])]
    if not problems and not (strength > 0 and 0 < share <= 1 and all((row >= 0).all() for row in by_models)):
        message = (
            f"strength {strength:g}, share_of_blends {share:g}, inverse_temperatures {scales.tolist()}, weights"
            f" {weights.tolist()}, spread {values.get('spread')}; expected a strength above 0, a share in (0, 1], and"
            " no negative numbers"
        )
        problems.append(Problem("bad-decoder", where, message))
    if problems:
        hint = "Was the file copied completely? Copy it again, or fit again."
        raise ValidationError([*problems[:-1], problems[-1]._replace(hint=hint)])
    return Model(scales, weights, arrays, float(strength), float(share), spread)


def _numbers(value: object) -> np.ndarray:
    """The value as an array of float64; NaN if it is not an array of numbers."""
    try:
        array = np.array(value)
    except ValueError:  # rows of different lengths
        return np.array(np.nan)
    return array.astype(np.float64) if array.dtype.kind in "iuf" else np.array(np.nan)
