"""Checked values of JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest

from partnerface_ns.capture.json_object import JsonObject
from partnerface_ns.common.errors import InputError


@pytest.fixture
def record(tmp_path):
    document = {
        "number": 2,
        "text": "a",
        "matrix": [[1, 2.5], [3, 4]],
        "frames": [{"x": 1}, {"x": "one"}],
        "inner": {"y": True},
        "nothing": None,
        "file": "f.txt",
        "huge": 10**400,
        "half": 0.5,
        "ragged": [[1, 2], [3]],
        "truths": [True, 1],
    }
    (tmp_path / "a.json").write_text(json.dumps(document))
    (tmp_path / "f.txt").write_text("x")
    return JsonObject.read(tmp_path.resolve() / "a.json")


def test_values_have_their_type(record):
    assert record.number("number") == 2.0 and isinstance(record.number("number"), float)
    assert record.index("number") == 2 and record.text("text") == "a"
    np.testing.assert_array_equal(record.numbers("matrix", 2, 2), [[1, 2.5], [3, 4]])
    assert record.children("frames")[0].number("x") == 1
    assert record.has("text") and not record.has("nothing") and not record.has("missing")
    assert record.file("file", record.source.parent).name == "f.txt"


@pytest.mark.parametrize(
    ("ask", "key"),
    [
        (lambda r: r.number("missing"), "missing"),
        (lambda r: r.number("text"), "text"),
        (lambda r: r.number("huge"), "huge"),
        (lambda r: r.number("number", 3.0), "number"),
        (lambda r: r.index("half"), "half"),
        (lambda r: r.text("number"), "number"),
        (lambda r: r.numbers("matrix", 2, 3), "matrix[0]"),
        (lambda r: r.numbers("ragged", 2, 2), "ragged[1]"),
        (lambda r: r.numbers("number", 1), "number"),
        (lambda r: r.numbers("truths", 2), "truths[0]"),
        (lambda r: r.children("inner"), "inner"),
        (lambda r: r.children("frames")[1].number("x"), "frames[1].x"),
        (lambda r: r.child("inner").number("y"), "inner.y"),
        (lambda r: r.child("matrix"), "matrix"),
        (lambda r: r.file("text", r.source.parent), "text"),
        (lambda r: r.file("number", r.source.parent), "number"),
    ],
)
def test_wrong_values_are_named_with_their_position(record, ask, key):
    with pytest.raises(InputError) as error:
        ask(record)
    assert str(error.value).startswith(f"{record.source} [{key}]: ")


def test_a_document_must_be_an_object(tmp_path):
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(InputError, match="an object"):
        JsonObject.read(tmp_path / "a.json")
