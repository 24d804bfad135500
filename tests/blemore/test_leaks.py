"""What participants learn of hidden labels from what the scoring program shows them, in bits.

The attack: 12 of 60 clips are unknown, each one of two emotions with equal probability. Their actors are known, and so
is the truth of all other clips, which the attacker predicts wrongly on purpose. The attacker makes one submission. Its
result is the same for equal labels, so it reveals its entropy: at most 12 bits. The totals reveal 2.84.
"""

import itertools
import json
import math
import random
from collections import Counter

import pytest

from blemore import codabench, page
from blemore.labels import BLENDS, LABELS, SINGLES, to_entry
from blemore.metrics import count
from blemore.signature import digest_labels
from blemore.validate import validate

SECRET = "0123456789abcdef0123456789abcdef"
ANG, DISG = SINGLES[:2]
CLIPS = [f"test_{number:04d}" for number in range(1, 61)]
ACTORS = {clip: f"A{number % 11:02d}" for number, clip in enumerate(CLIPS)}
UNKNOWN = CLIPS[:12]
KNOWN = {clip: random.Random(clip).choice(BLENDS) for clip in CLIPS[12:]}
GUESSES = validate({**{clip: to_entry(ANG) for clip in UNKNOWN}, **{clip: to_entry(DISG) for clip in KNOWN}})


def report(labels, secret=SECRET):
    return codabench.Report(count(GUESSES, labels), GUESSES, labels, groups=ACTORS, secret=secret)


def assignments(unknown):
    """All labels that the attacker considers possible. The clips after the unknown ones are known."""
    for choice in itertools.product((ANG, DISG), repeat=len(unknown)):
        yield {**dict.fromkeys(UNKNOWN, DISG), **dict(zip(unknown, choice)), **KNOWN}


def shown(level, result):
    """All that a participant sees, except the keyed hash, which is a random number without the secret."""
    labels = digest_labels(result.labels, result.secret)
    text, html, scores = codabench.results(result, level)
    assert labels in html
    return (text + html).replace(labels, ""), tuple(scores.values())


def totals(result):
    return result.counts.acc_presence, result.counts.acc_salience, result.counts.score


def bits(outcomes):
    """The entropy of the outcomes of equally likely labels."""
    counts = Counter(outcomes).values()
    return sum(n * math.log2(sum(counts) / n) for n in counts) / sum(counts)


@pytest.mark.parametrize("level", ["aggregate", "none"])
def test_a_hidden_phase_reveals_only_its_totals(level):
    reports = [report(labels) for labels in assignments(UNKNOWN)]
    assert len(reports) == 2**12
    revealed, by_totals = bits(shown(level, candidate) for candidate in reports), bits(map(totals, reports))
    print(f"{level}: {revealed:.2f} bits of 12; the totals: {by_totals:.2f}")
    assert revealed == pytest.approx(by_totals) and by_totals == pytest.approx(2.84, abs=0.005)


def test_the_full_page_would_reveal_more():
    """The page of a phase with public labels: the measure finds a leak if there is one."""
    reports = [report(labels) for labels in assignments(UNKNOWN[:8])]
    assert bits(shown("full", candidate) for candidate in reports) > 1.5 * bits(map(totals, reports))


@pytest.mark.parametrize("level", ["aggregate", "none"])
def test_whatever_the_labels_only_the_totals_show(level):
    """Any of the 36 labels for the unknown clips: if the three totals are equal, so is everything else."""
    rng = random.Random(1)
    reports = [report({**KNOWN, **{clip: rng.choice(LABELS) for clip in UNKNOWN}}) for _ in range(2000)]
    assert len({shown(level, result) for result in reports}) <= len({totals(result) for result in reports}) < 1000


def test_a_guess_cannot_be_confirmed_without_the_secret():
    """The hash on the page depends on the labels and on the secret; without a secret there is none."""
    labels = next(assignments(UNKNOWN))
    pages = [codabench.results(report(labels, secret), "aggregate").page for secret in (SECRET, SECRET[::-1], None)]
    assert len(set(pages)) == 3 and "labels:hidden" in pages[2]
    assert all(digest_labels(labels) not in text for text in pages)


def test_the_program_shows_nothing_else(tmp_path, capsys):
    """It prints and writes only what `results` returns."""
    labels = next(assignments(UNKNOWN))
    entries = {clip: to_entry(label) for clip, label in labels.items()}
    for folder in ("input/res", "input/ref", "output"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "input/ref/labels.json").write_text(json.dumps({"labels": entries, "groups": ACTORS, "secret": SECRET}))
    (tmp_path / "input/res/s.json").write_text(
        json.dumps({clip: to_entry(entry.label) for clip, entry in GUESSES.items()})
    )
    assert codabench.run(tmp_path / "input", tmp_path / "output", tmp_path / "none") == 0
    text, html, scores = codabench.results(report(labels), "aggregate")
    assert capsys.readouterr() == (text + "\n", "")
    files = {path.name: path.read_text() for path in (tmp_path / "output").iterdir()}
    assert files.pop("detailed_results.html") == html and json.loads(files.pop("scores.json")) == scores
    assert not files and page.LEVELS[1] == "aggregate" == codabench.Settings().report
