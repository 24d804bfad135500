"""Several models' scores of the same clips: paired by id, and clips that a model lacks."""

import numpy as np
import pytest

from blemore.errors import ValidationError
from blemore_baselines.decoding.scores import read_models, softmax
from blemore_baselines.features import scores_csv

CLIPS = ["b", "a", "c", "d"]
ONE = np.arange(24.0).reshape(4, 6) % 5
TWO = softmax(-ONE)


@pytest.fixture
def tables(tmp_path):
    """write(name, clips, scores): a table's path."""

    def write(name, clips, scores):
        path = tmp_path / f"{name}.csv"
        path.write_text(scores_csv(clips, np.asarray(scores)))
        return path

    return write


def test_scores_are_paired_by_id_and_may_be_missing(tables):
    first = tables("one", ["c", "b", "a"], ONE[[2, 0, 1]])  # logits, in another order, without d
    second = tables("two", ["d", "a", "b"], TWO[[3, 1, 0]])  # probabilities, without c
    models = read_models([first, second], CLIPS)
    assert models.ids == CLIPS and models.missing == [["d"], ["c"]]
    assert models.probabilities[0, :3] == pytest.approx(softmax(ONE[:3])) and np.isnan(models.probabilities[0, 3]).all()
    assert (
        models.probabilities[1, [0, 1, 3]] == pytest.approx(TWO[[0, 1, 3]])
        and np.isnan(models.probabilities[1, 2]).all()
    )
    expected = [(softmax(ONE)[0] + TWO[0]) / 2, (softmax(ONE)[1] + TWO[1]) / 2, softmax(ONE)[2], TWO[3]]
    assert models.logs == pytest.approx(np.log(models.probabilities), nan_ok=True)
    assert models.average() == pytest.approx(np.array(expected))


def test_sharp_logits_keep_what_probabilities_round_to_zero(tables):
    models = read_models([tables("one", CLIPS, 1000 * ONE)], CLIPS)
    assert models.logs[0] - models.logs[0].max(axis=1, keepdims=True) == pytest.approx(
        1000 * (ONE - ONE.max(axis=1, keepdims=True))
    )
    assert models.probabilities.min() == 0


def test_without_ids_every_clip_that_any_model_knows(tables):
    models = read_models([tables("one", ["c", "b"], ONE[:2]), tables("two", ["a", "b"], ONE[:2])])
    assert models.ids == ["c", "b", "a"] and models.missing == [["a"], ["c"]]


def test_a_clip_that_no_model_knows_is_refused_by_name(tables):
    paths = [tables("one", ["a", "b"], ONE[:2]), tables("two", ["b"], ONE[:1])]
    with pytest.raises(ValidationError, match="one.csv, .*two.csv: 2 of 4 clips have no scores from any model: c, d"):
        read_models(paths, CLIPS)


@pytest.mark.parametrize(
    ("clips", "says"),
    [
        (["a", "b", "stranger"], "1 clips are not in the metadata: stranger"),
        (["x", "y", "z"], "3 clips are not in the metadata: x, y, z"),
        (["a", "b", "a"], "1 clips occur more than once: a"),
    ],
)
def test_unknown_and_repeated_clips_are_refused(tables, clips, says):
    with pytest.raises(ValidationError, match=f"two.csv: {says}"):
        read_models([tables("one", CLIPS, ONE), tables("two", clips, ONE[:3])], CLIPS)


def test_non_finite_rows_are_refused_and_not_taken_as_missing(tables):
    bad = ONE.copy()
    bad[1, 2] = np.nan
    with pytest.raises(ValidationError, match="bad.csv: 1 clips hold NaN"):
        read_models([tables("one", CLIPS, ONE), tables("bad", CLIPS, bad)], CLIPS)
