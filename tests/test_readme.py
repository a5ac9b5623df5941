"""The README is true: its example runs, its table has every command."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import edgekit
from edgekit import exporters
from edgekit.bundle import Bundle
from edgekit.cli import app
from edgekit.compress.recipe import load_recipe, recipe_names

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_example_model_compresses_as_it_stands(tmp_path: Path) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (tmp_path / "mine.py").write_text(block)
    command = [sys.executable, "-m", "edgekit", "compress", "mine.py:digits", "-o", "digits.edge"]
    done = subprocess.run(
        [*command, "--seconds", "1"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    accuracy = Bundle.open(tmp_path / "digits.edge").manifest.accuracy
    assert accuracy is not None
    assert accuracy.reference > 0.9


def test_the_table_has_every_command_and_no_other() -> None:
    table = set(re.findall(r"^\| `edgekit (\w+)", README, re.MULTILINE))
    commands = {command.callback.__name__ for command in app.registered_commands}
    assert table == commands | {group.name for group in app.registered_groups}


def test_every_public_name_can_be_imported() -> None:
    for name in edgekit.__all__:
        assert getattr(edgekit, name) is not None


def test_the_make_commands_exist() -> None:
    makefile = (Path(__file__).parent.parent / "Makefile").read_text()
    for target in re.findall(r"`make ([\w-]+)`|^make ([\w-]+)", README, re.MULTILINE):
        assert f"\n{''.join(target)}:" in makefile


def test_the_table_has_every_runtime_that_artifacts_are_built_for_and_no_other() -> None:
    (section,) = re.findall(r"^## Runtimes\n(.*?)^## ", README, re.DOTALL | re.MULTILINE)
    assert set(re.findall(r"^\| `([\w-]+)`", section, re.MULTILINE)) == set(exporters.names())


def test_the_table_has_every_recipe_and_no_other() -> None:
    (section,) = re.findall(r"^## Recipes\n(.*?)^## ", README, re.DOTALL | re.MULTILINE)
    assert set(re.findall(r"^\| `([\w-]+)`", section, re.MULTILINE)) == set(recipe_names())


def test_the_example_recipes_have_only_keys_that_exist(tmp_path: Path) -> None:
    others = re.sub(r"^## Serving\n.*?(?=^## )", "", README, flags=re.DOTALL | re.MULTILINE)
    blocks = re.findall(r"```yaml\n(.*?)```", others, re.DOTALL)
    assert blocks
    for block in blocks:
        (tmp_path / "mine.yaml").write_text(block)
        load_recipe(str(tmp_path / "mine.yaml"))
