"""Structured decoding: a posterior over the 36 labels, then the label with the highest expected score.

The metric counts whole labels, and thresholds on six probabilities never ask how likely a whole label
is. Here a small model turns a clip's six log-probabilities z into P(set) over the 16 sets of emotions
and P(relation | pair); both together are a posterior over the 36 labels. Of all labels y the one is
chosen that maximises what the score is expected to gain by it,

    w · P(set of y) + (1 − w) · P(y) / s    for a blend;    w · P(set of y)    for a single,

with s the share of blends and w = 1/2 for the leaderboard's mean of ACC_presence and ACC_salience: over
N clips the first term counts 1/N a right set, the second 1/(sN) a right blend. No other decision can
have a higher expected score under that posterior, since the score is a sum over clips.

Several models are fused before: each one's log-probabilities times its inverse temperature, which makes
them all as sure as they are right, then their mean over the models that know the clip, weighted by how much
each tells, normalised again. So how sharp a model's scores are changes nothing.

The model is a multinomial logistic regression in features that treat all emotions alike (how high the
emotions of a set are, how high the best one outside of it), with corrections by emotion and by set that
are pulled to zero: so symmetric labels share their strength. How hard is chosen by cross-validated log
loss over whole folds, so that no actor is on both sides.

Arrays are as in decode.py. `logs` are log-probabilities (N, 6), or those of M models (M, N, 6), where a row
of NaN is a clip that the model does not know. A posterior is (N, 36), its columns in the order of
`blemore.labels.LABELS`.
"""

from __future__ import annotations

from itertools import combinations
from typing import Iterator, NamedTuple, Optional, Sequence, Union

import numpy as np
import torch
from tqdm import tqdm

from blemore.errors import Problem, ValidationError, show
from blemore.labels import EMOTIONS, LABELS, PAIRS
from blemore_baselines.arrays import demand_labels, demand_range, demand_rows
from blemore_baselines.dataset import IS_BLEND, N_SETS, RELATION_OF_LABEL, SET_OF_LABEL, TARGETS
from blemore_baselines.decode import FLOOR, log_softmax, softmax, to_log_probabilities
from blemore_baselines.heads import one_thread_each

STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)  # of the pull to zero
SPECIFIC = 10.0  # how much harder weights than biases are pulled
CHUNK = 4096  # clips at a time: what they need stays in the processor's cache
ROUNDING = 1e-12  # of a sum's parts: what is no more than this is nothing

N_PAIRS = len(PAIRS)
_FIRST, _SECOND = (np.array([EMOTIONS.index(pair[k]) for pair in PAIRS]) for k in (0, 1))
_IN_SET = np.zeros((N_SETS, len(EMOTIONS)), dtype=bool)
_IN_SET[np.arange(len(EMOTIONS)), np.arange(len(EMOTIONS))] = True
_IN_SET[len(EMOTIONS) + np.arange(N_PAIRS)[:, None], np.stack([_FIRST, _SECOND], axis=1)] = True


class Model(NamedTuple):
    """A fitted posterior: its models' inverse temperatures (M,) and weights (M,), its parameters by name, the strength it
    was fitted with, and the share of blends.

    weights: how far each model's log-probabilities vary over the emotions once they are as sure as they are right (root mean
             square), as parts of their sum; 0 where none knows anything
    """

    inverse_temperatures: np.ndarray
    weights: np.ndarray
    parameters: dict[str, np.ndarray]
    strength: float
    share: float


def log_probabilities(scores: Sequence[np.ndarray], names: Sequence[object]) -> np.ndarray:
    """Several models' logits or probabilities (N, 6) as log-probabilities (M, N, 6). `names` are for messages.

    A row of NaN, a clip that the model does not know, stays one.

    Raises ValidationError as `blemore_baselines.decode.to_probabilities` does; ValueError: models of other numbers of clips.
    """
    return np.stack([_log_probabilities(np.asarray(one), str(name)) for one, name in zip(scores, names, strict=True)])


def _log_probabilities(scores: np.ndarray, name: str) -> np.ndarray:
    unknown = np.isnan(scores).all(axis=1) if scores.ndim == 2 and scores.size else np.zeros(len(scores), dtype=bool)
    if not unknown.any():
        return to_log_probabilities(scores, name)
    logs = np.full(scores.shape, np.nan)
    logs[~unknown] = to_log_probabilities(scores[~unknown], name)
    return logs


def decide(posterior: np.ndarray, share: Union[float, np.ndarray], weight: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """The labels (N,) with the highest expected score, and that expectation (N,), whose mean is the score to expect.

    share:  of blends among the clips that are scored, in (0, 1]; one, or for each clip (N,)
    weight: of ACC_presence in the score; 1 − weight is ACC_salience's. In [0, 1]

    Of labels that are expected to score the same the likeliest wins (at weight 1 all relations of a pair do), then the first.

    Raises ValidationError: the posterior has another shape or is not finite, or a share or the weight is out of range.
    """
    posterior = demand_rows(posterior, len(LABELS), "posterior")
    demand_range(share, "share", 0, 1, open_below=True)
    demand_range(weight, "weight", 0, 1)
    if np.shape(share) not in ((), (len(posterior),)):
        raise ValidationError(Problem("wrong-shape", "share", f"shape {np.shape(share)}; expected one number, or one for each of {len(posterior):,} clips"))
    best, expected = np.empty(len(posterior), dtype=int), np.empty(len(posterior))
    per_blend = np.broadcast_to((1 - weight) / np.asarray(share, dtype=float), len(posterior))
    for start in range(0, len(posterior), CHUNK):
        part = posterior[start: start + CHUNK]
        gain = weight * set_probabilities(part)[:, SET_OF_LABEL]
        gain[:, len(EMOTIONS):] += per_blend[start: start + CHUNK, None] * part[:, len(EMOTIONS):]
        most = expected[start: start + CHUNK] = gain.max(axis=1)
        best[start: start + CHUNK] = np.where(gain == most[:, None], part, -1).argmax(axis=1)
    return best, expected


def calibration(posterior: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """How well a posterior (N, 36) tells the labels (N,): log loss (nats) and Brier score (0 to 2), means over clips.

    Raises ValidationError: another shape, numbers that are not finite, labels that are none, or no clips.
    """
    posterior = demand_rows(posterior, len(LABELS), "posterior")
    labels = demand_labels(labels, len(posterior))
    truth = np.eye(posterior.shape[1])[labels]
    log_loss = -np.log(np.maximum(posterior[np.arange(len(labels)), labels], FLOOR)).mean()
    return {"log_loss": float(log_loss), "brier": float(((posterior - truth) ** 2).sum(axis=1).mean())}


def frequencies(labels: np.ndarray) -> np.ndarray:
    """The posterior (36,) that knows the labels' frequencies alone, each counted once more than it occurs."""
    counts = np.bincount(labels, minlength=len(LABELS)) + 1.0
    return counts / counts.sum()


class Bin(NamedTuple):
    """Clips of like expectations: how many, what they were expected to reach on average, and what they reached."""

    clips: int
    expected: float
    reached: float


def reliability(expected: np.ndarray, reached: np.ndarray, bins: int = 10) -> list[Bin]:
    """Clips (N,) in bins of as many each, from the lowest expectation to the highest."""
    parts = np.array_split(np.argsort(expected, kind="stable"), min(bins, len(expected)))
    return [Bin(len(part), float(expected[part].mean()), float(reached[part].mean())) for part in parts]


def calibration_error(bins: Sequence[Bin]) -> float:
    """The expected calibration error: how far bins are off on average over clips (Naeini et al. 2015)."""
    return sum(one.clips * abs(one.expected - one.reached) for one in bins) / sum(one.clips for one in bins)


def set_probabilities(posterior: np.ndarray) -> np.ndarray:
    """The 16 sets' probabilities (N, 16), single emotions and then pairs, from the labels' (N, 36)."""
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

    def share_of(self, folds: np.ndarray) -> np.ndarray:
        """The share of blends (N,) that each clip's fold was decided with."""
        return np.array([self.shares[int(fold)] for fold in folds])


def cross_validate(logs: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> CrossValidated:
    """Nested cross-validation over `folds` (N,): a fold's temperatures and strength come from the other folds alone.

    A model without folds f and g tells how a strength does on g, for f's choice, and on f, for g's: so
    the inner loop takes a fit for every two folds, not for every ordered two.

    Raises ValidationError: see `fit` and `demand_folds`.
    """
    logs = _by_model(logs)
    labels = demand_labels(labels, logs.shape[1])
    demand_folds(labels, folds)
    names = [int(fold) for fold in np.unique(folds)]
    losses = {fold: np.zeros(len(STRENGTHS)) for fold in names}
    pairs = list(combinations(names, 2))
    with tqdm(total=len(pairs) * len(STRENGTHS) + len(names) + 1, desc="structured decoder", unit="fit", disable=None) as progress:

        def fitted(inside: np.ndarray, strength: float, start: Optional[Model] = None) -> Model:
            progress.update()
            return fit(logs[..., inside, :], labels[inside], strength, start)

        for f, g in pairs:
            model = None
            for k, strength in enumerate(STRENGTHS):
                model = fitted((folds != f) & (folds != g), strength, start=model)
                for chooser, judged in ((f, folds == g), (g, folds == f)):
                    losses[chooser][k] += judged.sum() * calibration(posterior(model, logs[..., judged, :]), labels[judged])["log_loss"]
        found = np.zeros((len(labels), len(LABELS)))
        shares, strengths = {}, {}
        for fold in names:
            strengths[fold] = STRENGTHS[int(losses[fold].argmin())]
            model = fitted(folds != fold, strengths[fold])
            found[folds == fold], shares[fold] = posterior(model, logs[..., folds == fold, :]), model.share
        final = fitted(np.ones(len(labels), dtype=bool), STRENGTHS[int(sum(losses.values()).argmin())])
    return CrossValidated(found, shares, strengths, final)


def demand_folds(labels: np.ndarray, folds: np.ndarray) -> None:
    """ValidationError: not a fold (N,) for each label, or blends in fewer than three folds: relations are learned without any two."""
    if np.shape(folds) != np.shape(labels):
        raise ValidationError(Problem("wrong-shape", "folds", f"shape {np.shape(folds)} for {len(labels):,} labels; expected one each"))
    found, with_blends = (len(np.unique(its)) for its in (folds, folds[IS_BLEND[labels]]))
    if with_blends < 3:
        raise ValidationError(Problem(
            "few-folds", "folds", f"{found} folds, {with_blends} of them with blends; structured decoding expected blends in at least 3, to choose on some what is judged on another",
            hint="Decode by thresholds, which need less: --decoder thresholds.",
        ))


def decide_out_of_fold(result: CrossValidated, folds: np.ndarray, weight: float = 0.5) -> np.ndarray:
    """Each clip's label (N,), with the share of blends that its fold's model was fitted with."""
    return decide(result.posterior, result.share_of(folds), weight)[0]


# ---------------------------------------------------------------------------- the posterior


def posterior(model: Model, logs: np.ndarray) -> np.ndarray:
    """(N, 36) from log-probabilities (N, 6) or (M, N, 6): rows sum to 1.

    Raises ValidationError: see `fuse`.
    """
    z, parameters = fuse(logs, model.inverse_temperatures, model.weights), _flat(model)
    found = np.empty((len(z), len(LABELS)))
    with one_thread_each():
        for start in range(0, len(z), CHUNK):
            sets, *relations = (_log_chances(parameters, design, columns) for design, columns in _designs(z[start: start + CHUNK]))
            joint = [sets[len(EMOTIONS) + pair] + relation for pair, relation in enumerate(relations)]
            found[start: start + CHUNK] = torch.cat([sets[: len(EMOTIONS)], *joint]).exp_().T.numpy()
    return found


def fuse(logs: np.ndarray, inverse_temperatures: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """A logarithmic opinion pool (Genest and Zidek 1986): log-probabilities (N, 6) from those of M models (M, N, 6), each times its
    inverse temperature (M,): their weighted mean, normalised.

    The weights (M,) sum to 1 over the models that know a clip, so that a clip that some do not know is as sure as the others
    are, whatever model lacks. Where no weight is above 0 nothing is known: all emotions are alike.

    Raises ValidationError: another shape, a number that is not finite, or a clip that no model knows.
    """
    logs = _by_model(logs)
    if len(logs) != len(inverse_temperatures):
        raise ValidationError(Problem(
            "wrong-models", "log-probabilities", f"{len(logs)} models; expected {len(inverse_temperatures)}, as the decoder was fitted on",
        ))
    knows = ~np.isnan(logs[:, :, 0])
    total = weights @ knows
    scales = np.divide(1, total, out=np.zeros(len(total)), where=total > 0)
    told = logs if knows.all() else np.where(knows[:, :, None], logs, 0)
    return log_softmax(scales[:, None] * np.tensordot(weights * inverse_temperatures, told, axes=1))


def inverse_temperature(logs: np.ndarray, labels: np.ndarray) -> float:
    """The a, at least 0, for which softmax(a · logs), of (N, 6), is nearest to the clips' soft labels by cross-entropy.

    Temperature scaling (Guo et al. 2017, On Calibration of Modern Neural Networks). Below 1 the model was
    too sure of itself; 0 says that it knows nothing. By bisection of the slope, which rises with a; where it
    never reaches zero, since all labels are told rightly, up to where rounding hides it.
    """
    logs = np.asarray(logs, dtype=np.float64)
    known = ~np.isnan(logs[:, 0])
    z = logs[known] - logs[known].mean(axis=1, keepdims=True)
    reached, nothing = float((TARGETS[labels[known]] * z).sum()), ROUNDING * np.abs(z).sum()
    falls = lambda a: float((softmax(a * z) * z).sum()) - reached < -nothing  # noqa: E731
    if not falls(0):
        return 0.0
    low, high = 0.0, 1 / np.abs(z).max()
    while falls(high):
        low, high = high, 2 * high
    for _ in range(25):
        middle = (low + high) / 2
        low, high = (middle, high) if falls(middle) else (low, middle)
    return float(high)


def _by_model(logs: np.ndarray) -> np.ndarray:
    """(M, N, 6), checked."""
    logs = np.asarray(logs, dtype=np.float64)
    if logs.ndim not in (2, 3) or logs.shape[-1] != len(EMOTIONS):
        raise ValidationError(Problem("wrong-shape", "log-probabilities", f"shape {logs.shape}; expected ([models,] clips, {len(EMOTIONS)})"))
    logs = logs[np.newaxis] if logs.ndim == 2 else logs
    unknown = np.isnan(logs).all(axis=2)
    if not np.isfinite(logs[~unknown]).all():
        raise ValidationError(Problem(
            "not-finite", "log-probabilities", "found NaN or Infinity; expected finite numbers, or NaN throughout where a model does not know a clip",
        ))
    if unknown.all(axis=0).any():
        raise ValidationError(Problem(
            "missing-clips", "log-probabilities", f"{unknown.all(axis=0).sum():,} clips are NaN in every model; expected scores from one at least",
        ))
    return logs


def fit(logs: np.ndarray, labels: np.ndarray, strength: float, start: Optional[Model] = None) -> Model:
    """The posterior's penalised maximum likelihood for log-probabilities (N, 6) or (M, N, 6), and labels (N,).

    strength: of the pull to zero, above 0
    start:    a model near the one maximum there is, which saves steps

    Raises ValidationError: see `fuse`; labels that are none or of another number than clips, no blend among them, or a
    strength that is not above 0.
    """
    logs = _by_model(logs)
    labels = demand_labels(labels, logs.shape[1])
    demand_range(strength, "strength", 0, open_below=True)
    blend = IS_BLEND[labels]
    if not blend.any():
        raise ValidationError(Problem("no-blends", "labels", f"{len(labels)} clips without a blend; expected some to learn relations from"))
    scales = np.array([inverse_temperature(one, labels) for one in logs])
    knows = ~np.isnan(logs[:, :, 0])
    spread = scales * np.sqrt(np.where(knows, logs.var(axis=2), 0).sum(axis=1) / np.maximum(knows.sum(axis=1), 1))
    weights = spread / (spread.sum() or 1)
    with one_thread_each():
        theta = _minimise(_flat(start) if start else _CENTRE, _terms(fuse(logs, scales, weights), labels), strength)
    return Model(scales, weights, {name: theta[columns].numpy() for name, columns in _COLUMNS.items()}, strength, float(blend.mean()))


def _terms(z: np.ndarray, labels: np.ndarray) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """What the likelihood is a product of: a logistic regression over the sets, and one over each pair's relations where
    that pair is true. Design, columns and true classes."""
    sets = SET_OF_LABEL[labels]
    terms = [(*_set_design(torch.from_numpy(z)), torch.from_numpy(sets))]
    for pair in range(N_PAIRS):
        mine = sets == len(EMOTIONS) + pair
        terms.append((*_relation_design(torch.from_numpy(z[mine]), pair), torch.from_numpy(RELATION_OF_LABEL[labels[mine]])))
    return terms


def _flat(model: Model) -> torch.Tensor:
    """All parameters, (187,)."""
    return torch.from_numpy(np.concatenate([np.ravel(model.parameters[name]) for name in _PARAMETERS]))


def _minimise(theta: torch.Tensor, terms: list, strength: float) -> torch.Tensor:
    """Newton's method with steps that are halved until the loss falls as it should (Nocedal and Wright 2006, section 3.1)."""
    now = _loss(theta, terms, strength)
    for _ in range(100):
        step = torch.linalg.solve(now.hessian, now.gradient)
        promise = float(now.gradient @ step)
        if promise < 1e-9:  # nats, twice what is left to gain
            break
        length = 1.0
        while (tried := _loss(theta - length * step, terms, strength)).value > now.value - 1e-4 * length * promise and length > 1e-6:
            length /= 2
        theta, now = theta - length * step, tried
    return theta


class _Loss(NamedTuple):
    value: float
    gradient: torch.Tensor
    hessian: torch.Tensor


def _loss(theta: torch.Tensor, terms: list, strength: float) -> _Loss:
    """The penalised negative log-likelihood at the parameters: a sum over logistic regressions that share some."""
    away, pull = theta - _CENTRE, strength * _PULL
    value, gradient, hessian = float(pull @ away.square()), 2 * pull * away, torch.diag(2 * pull)
    for design, columns, truth in terms:
        logs, rows = _log_chances(theta, design, columns), torch.arange(len(truth))
        value -= float(logs[truth, rows].sum())
        chances = logs.exp()
        residual = chances.clone()
        residual[truth, rows] -= 1
        mean = torch.zeros(len(truth), len(theta), dtype=torch.float64)
        for its, where, chance, off in zip(design, columns, chances, residual):
            gradient[where] += off @ its
            weighted = chance[:, None] * its
            hessian[where[:, None], where] += weighted.T @ its
            mean[:, where] += weighted
        hessian -= mean.T @ mean
    return _Loss(value, gradient, hessian)


def _log_chances(theta: torch.Tensor, design: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Log-probabilities (C, N) of C classes, from a design (C, N, K) and the parameters (C, K) that its columns multiply."""
    return torch.log_softmax((design @ theta[columns][:, :, None])[:, :, 0], dim=0)


def _designs(z: np.ndarray) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The logistic regression over the 16 sets, then for each pair the one over its three relations: designs and columns."""
    z = torch.from_numpy(z)
    yield _set_design(z)
    yield from (_relation_design(z, pair) for pair in range(N_PAIRS))


def _set_design(z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    n, by_emotion = len(EMOTIONS), z.T.contiguous()
    first, second = by_emotion[_FIRST], by_emotion[_SECOND]
    other = torch.stack([by_emotion[outside].amax(dim=0) for outside in ~_IN_SET])  # the highest outside of the set
    shared = [_COLUMNS[name].reshape(-1) for name in ("single", "pair", "is_pair")]
    columns = torch.cat([torch.cat(shared).expand(N_SETS, -1), _COLUMNS["set_bias"][:, None], _COLUMNS["set_weights"]], dim=1)
    design = torch.zeros(N_SETS, len(z), columns.shape[1], dtype=torch.float64)
    design[:n, :, 0], design[:n, :, 1] = by_emotion, other[:n]
    design[n:, :, 2], design[n:, :, 3], design[n:, :, 4] = torch.maximum(first, second), torch.minimum(first, second), other[n:]
    design[n:, :, 5] = 1
    design[:, :, 6], design[:, :, 7:] = 1, z
    return design, columns


def _relation_design(z: torch.Tensor, pair: int) -> tuple[torch.Tensor, torch.Tensor]:
    first, second = _FIRST[pair], _SECOND[pair]
    lead = z[:, first] - z[:, second]
    columns = torch.cat([
        _COLUMNS["lead"].reshape(1), _COLUMNS["dominance"][[first, second]], _COLUMNS["pair_weights"][pair],
        _COLUMNS["equal"].reshape(1), _COLUMNS["apart"].reshape(1),
    ])
    design = torch.zeros(3, len(z), len(columns), dtype=torch.float64)
    design[0, :, 0], design[0, :, 1], design[0, :, 2], design[0, :, 3:9] = lead, 1, -1, z
    design[1, :, 9], design[1, :, 10] = 1, -lead.abs()
    design[2] = -design[0]
    return design, columns.expand(3, -1)


def to_dict(model: Model) -> dict:
    """The model in plain numbers, for JSON; `from_dict` gives it back to the last bit."""
    return {
        "strength": model.strength, "share_of_blends": model.share,
        "inverse_temperatures": model.inverse_temperatures.tolist(), "weights": model.weights.tolist(),
        "parameters": {name: model.parameters[name].tolist() for name in _PARAMETERS},
    }


def from_dict(told: object, where: str = "decoder") -> Model:
    """The model that `to_dict` told. `where` is for messages.

    Raises ValidationError, a ValueError: a number is missing, unknown, not finite or out of range, or a
    parameter has another shape; every one is named.
    """
    told = told if isinstance(told, dict) else {}
    parameters = told.get("parameters") if isinstance(told.get("parameters"), dict) else {}
    numbers = {name: told.get(name) for name in ("strength", "share_of_blends", "inverse_temperatures", "weights")}
    models = len(numbers["inverse_temperatures"]) if isinstance(numbers["inverse_temperatures"], list) else 1
    wanted = {"strength": (), "share_of_blends": (), "inverse_temperatures": (max(models, 1),), "weights": (max(models, 1),)}
    wanted |= {name: shape for name, (shape, _, _) in _PARAMETERS.items()}
    problems = [
        Problem("bad-decoder", where, f"{show(name)} is unknown; expected the parameters of structured decoding alone")
        for name in parameters if name not in _PARAMETERS
    ]
    found = {}
    for name, shape in wanted.items():
        given = {**parameters, **numbers}.get(name)
        try:
            value = np.array(given)
        except ValueError:  # rows of several lengths
            value = np.array(None)
        found[name] = value.astype(np.float64) if value.dtype.kind in "iuf" else np.array(np.nan)
        if found[name].shape != shape or not np.isfinite(found[name]).all():
            problems.append(Problem("bad-decoder", where, f"{name}: found {show(given)}; expected finite numbers of shape {shape}"))
    strength, share, scales, weights = (found.pop(name) for name in numbers)
    if not problems and not (strength > 0 and 0 < share <= 1 and (scales >= 0).all() and (weights >= 0).all()):
        problems.append(Problem(
            "bad-decoder", where,
            f"strength {strength:g}, share_of_blends {share:g}, inverse_temperatures {scales.tolist()}, weights {weights.tolist()}; "
            "expected above 0, in (0, 1], none below 0",
        ))
    if problems:
        raise ValidationError([*problems[:-1], problems[-1]._replace(hint="Was the file copied whole? Copy it again, or fit again.")])
    return Model(scales, weights, found, float(strength), float(share))


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

# Where each parameter stands among all of them, (187,)
_ENDS = np.cumsum([int(np.prod(shape)) for shape, _, _ in _PARAMETERS.values()])
_COLUMNS = {
    name: torch.arange(end - int(np.prod(shape)), end).reshape(shape) for (name, (shape, _, _)), end in zip(_PARAMETERS.items(), _ENDS)
}
_CENTRE, _PULL = (
    torch.cat([torch.full((int(np.prod(one[0])),), one[k], dtype=torch.float64) for one in _PARAMETERS.values()]) for k in (1, 2)
)
