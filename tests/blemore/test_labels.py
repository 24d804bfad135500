from blemore.labels import BLENDS, LABELS, SINGLES


def test_there_are_36_labels():
    assert (len(SINGLES), len(BLENDS), len(set(LABELS))) == (6, 30, 36)
