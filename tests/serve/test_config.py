from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from edgekit.serve.config import ConfigError, ModelConfig, checked, read_config

README = Path(__file__).parents[2] / "README.md"


def test_the_readme_s_settings_are_real() -> None:
    (text,) = re.findall(r"```yaml\n(memory_mb.*?)```", README.read_text(), re.DOTALL)
    config = checked(yaml.safe_load(text), "README.md")
    assert config.of("digits").weights == {"1": 90, "2": 10}
    assert config.of("another").threads == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"memory": 1}, "memory: Extra inputs are not permitted"),
        ({"models": {"a": {"max_batch": 0}}}, "models.a.max_batch: Input should be greater"),
        ({"models": {"a": {"instances": "many"}}}, "models.a.instances"),
        ({"models": 3}, "models: Input should be a valid dictionary"),
    ],
)
def test_a_wrong_setting_is_named_with_its_place(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        checked(settings, "serve.yaml")
    assert str(caught.value).startswith(f"serve.yaml: {message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [("[1]", "must be a mapping"), ("{", "is not YAML"), (None, "cannot be read")],
)
def test_a_file_that_is_no_configuration_is_one_clear_error(
    tmp_path: Path, text: str | None, message: str
) -> None:
    path = tmp_path / "serve.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_config(path)


def test_instances_share_the_cores(tmp_path: Path) -> None:
    config = ModelConfig(cores=(0, 1, 2, 3), instances=2)
    assert config.session_options(0, tmp_path).cores == (0, 1)
    assert config.session_options(1, tmp_path).cores == (2, 3)
