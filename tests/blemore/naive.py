"""A reference scorer, written only from the definition: slow and plain, without a line of the code that it checks."""

from fractions import Fraction

BLENDABLE = ["ang", "disg", "fea", "hap", "sad"]


def decimal(number):
    """A number as written in decimals: 99.99 is 9999/100."""
    return Fraction(repr(number))


def is_valid(entry):
    """A single at 100 ± 0.01; or two different emotions, never neutral, each in (0, 100), that sum to 100 ± 0.01."""
    saliences = [decimal(part["salience"]) for part in entry]
    emotions = [part["emotion"] for part in entry]
    if abs(sum(saliences) - 100) > Fraction(1, 100):
        return False
    if len(entry) == 1:
        return emotions[0] in BLENDABLE + ["neu"]
    if len(entry) != 2 or emotions[0] == emotions[1]:
        return False
    return all(emotion in BLENDABLE for emotion in emotions) and all(0 < salience < 100 for salience in saliences)


def dominant(entry):
    """The dominant emotion of a blend, or "both". Compares the exact binary values, without rounding."""
    (first, a), (second, b) = [(part["emotion"], Fraction(part["salience"])) for part in entry]
    if abs(a - b) < Fraction(1, 10**6):
        return "both"
    return first if a > b else second


def clip_outcome(predicted, true):
    """(right set, right relation, right rounded percentages); the last two are None if the truth is not a blend."""
    right_set = {part["emotion"] for part in predicted} == {part["emotion"] for part in true}
    if len(true) == 1:
        return right_set, None, None
    if not right_set:
        return False, False, False
    percentages = {part["emotion"]: round(decimal(part["salience"])) for part in predicted}
    exact = all(percentages[part["emotion"]] == part["salience"] for part in true)
    return True, dominant(predicted) == dominant(true), exact


def scores(predictions, labels):
    """(ACC_presence, ACC_salience, the exact figure) as fractions; the last two are None without blends."""
    outcomes = [clip_outcome(predictions[clip], labels[clip]) for clip in labels]
    blends = [outcome for outcome in outcomes if outcome[1] is not None]
    presence = Fraction(sum(outcome[0] for outcome in outcomes), len(outcomes))
    if not blends:
        return presence, None, None
    return presence, Fraction(sum(b[1] for b in blends), len(blends)), Fraction(sum(b[2] for b in blends), len(blends))
