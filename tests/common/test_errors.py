"""The error for user data, pickled by another process."""

from __future__ import annotations

import pickle
from pathlib import Path

from partnerface_ns.common.errors import InputError


def test_an_error_survives_pickling():
    sent = InputError(Path("a.json"), "wrong", key="k", expected=(3, 4), actual=2.0, hint="fix it")
    result = pickle.loads(pickle.dumps(sent))
    assert type(result) is InputError and str(result) == str(sent) and result.key == "k" and result.hint == "fix it"
