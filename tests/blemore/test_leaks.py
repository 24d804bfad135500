"""What participants learn of hidden labels from what the scoring program shows them, in bits.

The attack: 60 clips, of which 12 are unknown, each of them one of two emotions, as likely as not; their actors are
known, and so is the truth of all others, which the attacker gets wrong on purpose. One submission is made. What it
shows is the same for equal labels, so what it tells of them is its entropy: at most 12 bits. The totals tell 2.84.
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
    """All of the labels that the attacker holds possible; the clips behind those unknown are known after all."""
    for choice in itertools.product((ANG, DISG), repeat=len(unknown)):
        yield {**dict.fromkeys(UNKNOWN, DISG), **dict(zip(unknown, choice)), **KNOWN}


def shown(level, result):
    """All that a participant gets to see, the keyed hash left out: without the secret, it is a random number."""
    labels = digest_labels(result.labels, result.secret)
    text, html, scores = codabench.results(result, level)
    assert labels in html
    return (text + html).replace(labels, ""), tuple(scores.values())


def totals(result):
    return result.counts.acc_presence, result.counts.acc_salience, result.counts.score


def bits(outcomes):
    """The entropy of equally likely labels' outcomes."""
    counts = Counter(outcomes).values()
    return sum(n * math.log2(sum(counts) / n) for n in counts) / sum(counts)


@pytest.mark.parametrize("level", ["aggregate", "none"])
def test_a_hidden_phase_tells_what_its_totals_tell(level):
    reports = [report(labels) for labels in assignments(UNKNOWN)]
    assert len(reports) == 2**12
    told, by_totals = bits(shown(level, one) for one in reports), bits(map(totals, reports))
    print(f"{level}: {told:.2f} bits of 12; the totals: {by_totals:.2f}")
    assert told == pytest.approx(by_totals) and by_totals == pytest.approx(2.84, abs=0.005)


def test_the_full_page_would_tell_more():
    """That of a phase whose labels are public. So the measure finds a leak where there is one."""
    reports = [report(labels) for labels in assignments(UNKNOWN[:8])]
    assert bits(shown("full", one) for one in reports) > 1.5 * bits(map(totals, reports))


@pytest.mark.parametrize("level", ["aggregate", "none"])
def test_whatever_the_labels_only_the_totals_show(level):
    """Any of the 36 labels for the unknown clips: where three totals are equal, so is all else."""
    rng = random.Random(1)
    reports = [report({**KNOWN, **{clip: rng.choice(LABELS) for clip in UNKNOWN}}) for _ in range(2000)]
    assert len({shown(level, result) for result in reports}) <= len({totals(result) for result in reports}) < 1000


def test_a_guess_cannot_be_confirmed_without_the_secret():
    """The hash on the page is of the labels, but another one for every secret, and none where there is no secret."""
    labels = next(assignments(UNKNOWN))
    pages = [codabench.results(report(labels, secret), "aggregate").page for secret in (SECRET, SECRET[::-1], None)]
    assert len(set(pages)) == 3 and "labels:hidden" in pages[2]
    assert all(digest_labels(labels) not in text for text in pages)


def test_the_program_shows_nothing_else(tmp_path, capsys):
    """Neither prints nor writes it anything that `results` does not hold."""
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
    written = {path.name: path.read_text() for path in (tmp_path / "output").iterdir()}
    assert written.pop("detailed_results.html") == html and json.loads(written.pop("scores.json")) == scores
    assert not written and page.LEVELS[1] == "aggregate" == codabench.Settings().report
