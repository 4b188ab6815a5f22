"""Settings from files of earlier versions."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from partnerface_ns.common.settings import config_from_dict, missing_settings


@dataclass
class Inner:
    width: int = 3
    slope: float = 2.0
    ABSENT: ClassVar[dict[str, float]] = {"slope": 1.0}


@dataclass
class Outer:
    inner: Inner = field(default_factory=Inner)


def test_a_setting_that_a_file_lacks_gets_the_value_of_the_versions_without_it():
    read = config_from_dict(Outer(), {"inner": {"width": 5}}, Path("old.yml"))
    assert read == Outer(Inner(5, 1.0))
    assert config_from_dict(Outer(), {"inner": {"slope": 4.0}}, Path("new.yml")).inner.slope == 4.0
    assert missing_settings(Outer(), {"inner": {}}) == ["inner.width"]
