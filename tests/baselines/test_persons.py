"""Clustering clips by person: on invented people, on the demo, and from the command line."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.cluster import AgglomerativeClustering, KMeans
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

from blemore.errors import ValidationError
from blemore.io import csv_text
from blemore_baselines.cli import main
from blemore_baselines.dataset import TARGETS, read_groups
from blemore_baselines.features import Features
from blemore_baselines.survey.persons import FEWEST, bic, cluster, judge, project

pytestmark = pytest.mark.usefixtures("one_thread")


SHARES = (0.2, 0.35, 0.35, 0.1)  # of the variance: who, which emotion, how this time, noise


def people(count, clips, seed=0, shares=SHARES, columns=200):
    """A source, and the person in each clip. Each of four causes moves all columns, in directions of its own."""
    rng = np.random.default_rng(seed)
    actors = rng.permutation(np.repeat(np.arange(count), clips))
    causes = (
        rng.normal(size=(count, 12))[actors],
        TARGETS[rng.integers(0, 36, len(actors))] * rng.uniform(0.5, 1.5, (len(actors), 1)),
        rng.normal(size=(len(actors), 25)) * np.linspace(2, 0.3, 25),
    )
    effects = [cause @ rng.normal(size=(cause.shape[1], columns)) for cause in causes]
    effects.append(rng.normal(size=(len(actors), columns)))
    X = sum(np.sqrt(share) * effect / effect.std(axis=0).mean() for share, effect in zip(shares, effects))
    return source(X), [f"A{actor}" for actor in actors]


def source(X):
    return Features([f"clip{k:04}" for k in range(len(X))], X, np.arange(len(X)), {})


def same_partition(first, second):
    return adjusted_rand_score(first, second) == 1


@pytest.mark.parametrize("count, clips", [(5, 40), (7, 40)])
def test_people_are_separated_although_emotions_differ_more(count, clips):
    features, actors = people(count, clips)
    clusters = cluster([features])
    assert same_partition(clusters.persons, actors)
    assert clusters.sizes == {f"person_{k:02}": clips for k in range(1, count + 1)}
    assert min(clusters.bics, key=clusters.bics.get) == count and max(clusters.bics) <= count * clips // FEWEST


def test_plain_clustering_finds_emotions_there():
    """The case is one on which k-means and Ward's method, on standardised columns, do much worse."""
    features, actors = people(5, 40)
    Z = (features.X - features.X.mean(axis=0)) / features.X.std(axis=0)
    for plain in (KMeans(5, n_init=10, random_state=0), AgglomerativeClustering(5)):
        assert adjusted_rand_score(actors, plain.fit_predict(Z)) < 0.5


def test_one_person_is_one_cluster():
    rng = np.random.default_rng(3)
    assert cluster([source(rng.normal(size=(60, 12)))]).sizes == {"person_01": 60}


def test_the_number_can_be_given():
    features, _ = people(5, 20)
    for number in (1, 2, 5, 8, 100):
        clusters = cluster([features], number)
        assert len(clusters.sizes) == number and not clusters.bics
    assert clusters.persons[:2] == ["person_001", "person_002"], (
        "in the order of the ids, with as many digits as needed"
    )


def test_neither_order_nor_scale_matters():
    features, actors = people(5, 25, seed=4, shares=(0.1, 0.4, 0.4, 0.1))  # so hard that ties and chance would show
    rng = np.random.default_rng(0)
    order, columns = rng.permutation(125), rng.permutation(200)
    scaled = features.X[order][:, columns] * rng.uniform(0.01, 100, 200) + rng.normal(size=200)
    other = features._replace(ids=[features.ids[k] for k in order], X=scaled)
    plain, moved = cluster([features], 5), cluster([other], 5)
    assert 0.05 < adjusted_rand_score(actors, plain.persons) < 0.9
    assert dict(zip(plain.ids, plain.persons)) == dict(zip(moved.ids, moved.persons))
    assert plain.distances[order] == pytest.approx(moved.distances)


def test_sources_count_the_same_whatever_their_width():
    """A wide source of noise does not drown a narrow one, as it does in one table with it."""
    features, actors = people(5, 40)
    noise = np.random.default_rng(5).normal(size=(200, 4000))
    apart = cluster([features, source(noise)], 5)
    together = cluster([source(np.hstack([features.X, noise]))], 5)
    assert adjusted_rand_score(actors, apart.persons) > 0.8 > adjusted_rand_score(actors, together.persons) + 0.3


def test_constant_columns_change_nothing():
    features, _ = people(5, 20)
    wider = source(np.hstack([features.X, np.full((100, 3000), 0.1)]))
    assert cluster([wider], 5).persons == cluster([features], 5).persons


def test_more_columns_than_clips():
    features, actors = people(5, 40, columns=900)
    assert same_partition(cluster([features]).persons, actors)


@pytest.mark.parametrize(
    "X, number, expected",
    [
        (np.zeros((40, 3)), None, "the same for all clips"),
        (np.eye(2 * FEWEST - 1), None, "expected at least 20 to estimate"),
        (np.eye(4), 5, "at least one per person"),
    ],
)
def test_what_cannot_be_clustered_is_refused(X, number, expected):
    with pytest.raises(ValidationError, match=expected):
        cluster([source(X)], number)


def test_bic_is_scikit_learns():
    """For a tied mixture whose clusters are so well separated that soft and hard assignments are the same."""
    rng = np.random.default_rng(0)
    groups = np.repeat([0, 1, 2], [20, 30, 50])
    places = rng.normal(size=(100, 4)) + 100 * groups[:, None]
    mixture = GaussianMixture(3, covariance_type="tied", random_state=0, reg_covar=0).fit(places)
    assert bic(places, groups) == pytest.approx(mixture.bic(places))


def test_projecting_by_hand():
    """Two columns, x = (−1, 1, −1, 1) and y = (−1, −1, 1, 1), at any scale: both components have the same variance, and
    the places are a square again."""
    x, y = np.array([-1, 1, -1, 1]), np.array([-1, -1, 1, 1])
    places = project([np.stack([7 * x, 0.1 * y + 3], axis=1)])
    distances = np.linalg.norm(places[:, None] - places, axis=2)
    assert distances[0, 3] == pytest.approx(np.sqrt(2) * distances[0, 1]) and distances[0, 1] == distances[0, 2]


def test_evaluation_on_known_actors(planted):
    dataset, _ = planted([1.0], n=360)  # twelve actors in four folds
    rng = np.random.default_rng(0)
    marks = 3 * rng.normal(size=(12, 20))
    features = source(marks[[int(actor[1:]) for actor in dataset.actors]] + rng.normal(size=(360, 20)))
    clusters, table = judge(dataset, [features._replace(ids=dataset.ids)])
    assert same_partition(clusters.persons, dataset.actors)
    assert [row[0] for row in table.rows] == ["fold 0", "fold 1", "fold 2", "fold 3", "all"]
    assert all(row[-4:] == pytest.approx([1.0] * 4) for row in table.rows)
    assert [row[1:4] for row in table.rows][-1] == [360, 12, 12]
    assert all(row[2] == row[3] == 3 for row in table.rows[:-1])


def test_evaluation_of_chance(planted):
    dataset, sources = planted([None], n=360)  # noise alone
    _, table = judge(dataset, sources)
    assert all(abs(row[-1]) < 0.1 for row in table.rows)


# -------------------------------------------------------------------------------- the command


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """20 clips of each of three very different people: features.csv, ids.csv."""
    features, actors = people(3, 20, shares=(0.7, 0.1, 0.1, 0.1))
    monkeypatch.chdir(tmp_path)
    rows = [[clip, *row] for clip, row in zip(features.ids, features.X.tolist())]
    (tmp_path / "features.csv").write_text(csv_text([["filename", *range(200)], *rows]))
    (tmp_path / "ids.csv").write_text("filename\n" + "".join(f"{clip}.mov\n" for clip in reversed(features.ids)))
    return features.ids, actors


def call(*arguments):
    return CliRunner().invoke(main, ["actors", *arguments])


def test_the_command_writes_groups(folder):
    ids, actors = folder
    result = call("--features", "features.csv", "--ids", "ids.csv", "--out", "groups.csv")
    assert result.exit_code == 0 and "3 persons (estimated)" in result.stdout and "person_03     20" in result.stdout
    assert "--metadata" in result.stderr, "how to judge it"
    with open("groups.csv") as file:
        assert file.readline() == "filename,actor\n" and file.readline().startswith(f"{ids[-1]},"), "the order of --ids"
    assert same_partition(read_groups(Path("groups.csv"), ids), actors)


@pytest.mark.parametrize(
    "options, code, expected",
    [
        ([], 2, "either --ids or --metadata"),
        (["--ids", "ids.csv", "--metadata", "train.csv"], 2, "either --ids or --metadata"),
        (["--metadata", "train.csv", "--number", "3"], 2, "--number goes with --ids"),
        (["--ids", "ids.csv", "--number", "61"], 1, "at least one per person"),
        (["--ids", "none.csv"], 3, "cannot be opened"),
    ],
)
def test_mistakes_are_reported(folder, tmp_path, options, code, expected):
    result = call("--features", "features.csv", *options, "--out", "groups.csv")
    assert result.exit_code == code and expected in result.output
    assert not (tmp_path / "groups.csv").exists()


def test_all_missing_videos_are_reported_and_nothing_is_written(folder, tmp_path):
    (tmp_path / "clips").mkdir()
    result = call("--features", "features.csv", "--ids", "ids.csv", "--clips", "clips", "--out", "groups.csv")
    assert result.exit_code == 1 and "18 clips to be drawn have no video" in result.output
    assert not (tmp_path / "groups.csv").exists()


def test_the_picture_shows_clips_of_each_cluster(folder, tmp_path, monkeypatch):
    """Red, green and blue people: a row of each colour. A video that cannot be read is named, and the others shown."""
    import cv2

    from blemore_baselines.demo.generator import _mov
    from blemore_baselines.demo.score import FPS, RATE, SIDE

    (tmp_path / "clips").mkdir()
    ids, actors = folder
    for person, channel in zip(sorted(set(actors)), range(3)):
        frames = np.zeros((3, SIDE, SIDE, 3), np.uint8)
        frames[..., channel] = 255
        content = _mov(frames, np.zeros(3 * RATE // FPS, np.float32))
        for clip in (clip for clip, actor in zip(ids, actors) if actor == person):
            (tmp_path / "clips" / f"{clip}.mov").write_bytes(content)
    options = ["--features", "features.csv", "--ids", "ids.csv", "--clips", "clips", "--out", "groups.csv"]
    result = call(*options)
    assert result.exit_code == 0 and "groups.png" in result.stderr
    pixels = cv2.imread("groups.png").astype(int)[..., ::-1]
    rows = []  # of the picture that show each colour, and how much of it
    for channel in range(3):
        is_colour = (pixels[..., channel] > 200) & (np.delete(pixels, channel, axis=2).max(axis=2) < 60)
        rows.append((np.flatnonzero(is_colour.any(axis=1)), int(is_colour.sum())))
    assert min(count for _, count in rows) > 20_000
    ordered = sorted((places.min(), places.max()) for places, _ in rows)
    assert all(before[1] < after[0] for before, after in zip(ordered, ordered[1:])), "rows of one colour each"
    for clip in ids:
        (tmp_path / "clips" / f"{clip}.mov").write_bytes(b"")
    assert call(*options).exit_code == 0 and cv2.imread("groups.png").shape == pixels.shape
