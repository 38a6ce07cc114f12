"""The published vectors of the keyed masks, made again by a model that shares nothing with the server."""

import json
import pathlib

from mask_model import days_of, hashed, shifted

VECTORS = json.loads((pathlib.Path(__file__).parents[2] / "docs" / "mask-vectors.json").read_text())


def of(name):
    vectors = [vector for vector in VECTORS["vectors"] if isinstance(vector["mask"], dict) and name in vector["mask"]]
    assert vectors
    return [(vector["mask"][name], vector) for vector in vectors]


def test_pseudonyms_are_those_that_the_documents_describe():
    for arguments, vector in of("hash"):
        assert hashed(VECTORS, arguments, vector["type"], vector["input"]) == vector["output"], vector


def test_dates_are_moved_as_the_documents_describe():
    for arguments, vector in of("shift"):
        given = (vector["type"], vector["input"], vector["subject_type"], vector["subject"])
        assert shifted(VECTORS, arguments, *given) == vector["output"], vector


def test_every_number_of_days_within_the_range_is_somebodys_and_none_is_zero():
    days = [days_of(VECTORS, {"max_days": 30}, "integer", subject) for subject in range(5_000)]
    assert set(days) == set(range(-30, 31)) - {0}
    assert all(40 < days.count(each) < 140 for each in set(days))
