"""A study's files: what is read back is what was written."""

import json

import numpy as np
import pytest
from cases import small_picture

from blemore.tables import Table
from blemore_baselines.results import study_files
from blemore_baselines.results.pictures import sign
from blemore_baselines.results.study_files import Study


@pytest.fixture
def study():
    table = Table(
        "Folds, told", ["figure", "n", "value", ""], [["score", 3, 0.1 + 0.2, None], ["007", -1, 1e-9, '"<c>']]
    )
    numbers = Table("Numbers", ["name", "value"], [["whole", 1.0], ["numpy's", np.float64(1 / 3)]])
    figures = {"gap": small_picture()}
    findings, values = ["Nothing is shown."], {"seeds": [0, 1], "score": 1 / 3}
    return Study("identity", "A title", {"folds": table, "numbers": numbers}, figures, findings, values, "a:1|b:2:3")


def test_a_study_is_read_back_completely(study, tmp_path):
    study_files.write(study, tmp_path / "out")
    result = study_files.read(tmp_path / "out" / "identity.json")
    # Files hold the signature, too; all else is as it was.
    assert result == study._replace(figures={"gap": sign(small_picture(), study.signature)})
    cells = [cell for table in result.tables.values() for row in table.rows for cell in row]
    assert [type(cell) for cell in cells[:4]] == [str, int, float, type(None)]
    assert type(result.tables["numbers"].rows[0][1]) is float  # 1.0 stays a fraction
    assert result.fields == {"a": "1", "b": "2:3"}


def test_values_keep_their_place_in_the_json(study, tmp_path):
    study_files.write(study, tmp_path)
    content = json.loads((tmp_path / "identity.json").read_text())
    assert list(content) == ["study", "title", "findings", "signature", "seeds", "score", "tables", "figures"]
    assert content["figures"] == ["gap"] and content["tables"]["folds"]["rows"][0] == ["score", 3, 0.1 + 0.2, None]
    assert {path.name for path in tmp_path.iterdir()} >= {
        *(f"identity_{name}.{form}" for name in study.tables for form in ("csv", "tex")),
        "identity_gap.png",
        "identity_gap.pdf",
    }
