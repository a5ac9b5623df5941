from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.compress.recipe import load_recipe, recipe_names
from edgekit.errors import RecipeError


def _recipe(folder: Path, text: str) -> str:
    path = folder / "r.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_loads_and_says_what_it_is_for(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.description


def test_a_file_is_read(tmp_path: Path) -> None:
    text = "name: mine\npasses:\n  - {type: int8-ptq, observer: min-max}\nbudget: {max_drop: 0.1}\n"
    recipe = load_recipe(_recipe(tmp_path, text))
    assert recipe.budget.max_drop == 0.1
    assert recipe.passes[0].observer == "min-max"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\npasses: [{type: int8-ptq, observr: a}]", "did you mean 'observer'"),
        ("name: x\npasses: []\nbudgett: {}", "did you mean 'budget'"),
        ("name: x\npasses: []\nbudget: {max_dorp: 1}", "did you mean 'max_drop'"),
        ("name: x\npasses: [{type: int8-pqt}]", "did you mean 'int8-ptq'"),
        ("name: x\npasses: [{type: int8-ptq, percentile: 200}]", "percentile"),
        ("name: x\npasses: [int8]", "unknown pass type None"),
        ("name: [unclosed", "is not YAML"),
        ("- a list", "is not a mapping"),
        ("passes: []", "name: Field required"),
    ],
)
def test_every_mistake_is_one_line_with_the_nearest_key(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(_recipe(tmp_path, text))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_names_and_missing_files_are_refused() -> None:
    with pytest.raises(RecipeError, match="did you mean 'int8'"):
        load_recipe("int9")
    with pytest.raises(RecipeError, match="no such file"):
        load_recipe("nowhere.yaml")
