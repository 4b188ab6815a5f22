"""The methods as nerfstudio sees them."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import yaml
from nerfstudio.plugins.registry_dataparser import DataParserSpecification
from nerfstudio.plugins.types import MethodSpecification

import partnerface_ns
from partnerface_ns.avatar.config import AvatarConfig
from partnerface_ns.plugin import configs, registration
from partnerface_ns.plugin.datamanager import PartnerfaceDataManagerConfig
from partnerface_ns.plugin.dataparser import FlameDataParserConfig
from partnerface_ns.plugin.model import PartnerfaceModelConfig
from partnerface_ns.plugin.pipeline import PartnerfacePipelineConfig
from partnerface_ns.plugin.trainer import PartnerfaceTrainerConfig
from partnerface_ns.training.rays import RaySamplerConfig
from partnerface_ns.training.schedule import ScheduleConfig

SOURCE = "\n".join(p.read_text() for p in Path(partnerface_ns.__file__).parent.rglob("*.py"))


def own_configs() -> list[type]:
    nested = [type(v) for v in vars(AvatarConfig()).values() if dataclasses.is_dataclass(v)]
    plugin = [FlameDataParserConfig, PartnerfaceDataManagerConfig, PartnerfaceModelConfig]
    plugin += [PartnerfacePipelineConfig, PartnerfaceTrainerConfig]
    return [AvatarConfig, *nested, RaySamplerConfig, ScheduleConfig, *plugin]


@pytest.mark.parametrize("config", own_configs(), ids=lambda c: c.__name__)
def test_every_field_has_a_sentence_and_is_read(config):
    body = ast.parse(inspect.getsource(config)).body[0].body
    hidden = inspect.getsource(config).partition("nerfstudio's own")[2]
    for field, after in zip(body, [*body[1:], None], strict=True):
        if not isinstance(field, ast.AnnAssign) or f"    {field.target.id}: " in hidden:
            continue
        if ast.unparse(field.annotation).startswith("ClassVar"):
            continue
        name = field.target.id
        documented = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        assert documented, f"{config.__name__}.{name} has no sentence"
        inherited = any(name in getattr(base, "__dataclass_fields__", {}) for base in config.__bases__)
        assert inherited or re.search(rf"\.{name}\b", SOURCE), f"{config.__name__}.{name} is never read"


def test_entry_points_lead_to_specifications_of_the_same_name():
    methods = {e.name: e.load() for e in entry_points(group="nerfstudio.method_configs") if "partnerface" in e.name}
    assert methods.keys() == {"partnerface", "partnerface-lite"}
    for name, specification in methods.items():
        assert isinstance(specification, MethodSpecification)
        assert specification.config.method_name == name
    (parser,) = (e.load() for e in entry_points(group="nerfstudio.dataparser_configs") if e.name == "flame-data")
    assert isinstance(parser, DataParserSpecification)


def test_a_broken_installation_gives_a_reason_instead_of_an_exception(monkeypatch):
    monkeypatch.setitem(sys.modules, "partnerface_ns.plugin.configs", None)
    assert "cannot be loaded" in registration.partnerface
    with pytest.raises(AttributeError):
        registration.something_else  # noqa: B018


def test_presets_are_the_base_with_changes():
    base, lite, full = configs.base(), configs.lite(), configs.full()
    assert dataclasses.replace(lite, method_name=base.method_name) == base
    assert full.optimizers == base.optimizers
    assert full.pipeline.datamanager.sampler.rays_per_batch > lite.pipeline.datamanager.sampler.rays_per_batch
    assert configs.lite().pipeline is not lite.pipeline


def test_a_configuration_survives_its_file(make_config):
    config = make_config()
    stored = yaml.load((config.get_base_dir() / "config.yml").read_text(), Loader=yaml.Loader)
    assert stored == config


def test_a_users_mistake_ends_ns_train_with_one_message(tmp_path):
    command = [sys.executable, "-c", "from nerfstudio.scripts.train import entrypoint; entrypoint()"]
    arguments = ["partnerface-lite", "--data", "nowhere", "--vis", "tensorboard"]
    done = subprocess.run([*command, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stderr.count("Error:") == 1 and str(tmp_path / "nowhere") in done.stderr
    assert list(tmp_path.iterdir()) == []
