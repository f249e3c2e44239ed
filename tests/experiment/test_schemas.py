"""The schemas, read by the package, by Snakemake and by people, agree with the specs, the rows and the manual."""

import re
from dataclasses import fields

import jsonschema
import pytest
import yaml
from clone import REPOSITORY
from snakemake.utils import validate

from footprint.experiment.schema import config_schema
from footprint.experiment.yaml_file import load
from footprint.spec import model, recipe, run
from footprint.spec.checkpointing import CHECKPOINTING
from footprint.spec.model import ModelSpec
from footprint.spec.precision import PRECISIONS
from footprint.spec.run import AXES, AXIS_DEFAULTS
from footprint.spec.training import TrainingSpec
from footprint.tables import rows as records
from footprint.text.corpus import CorpusSpec

ROOT = REPOSITORY
CONFIG = ROOT / "config"
ROWS = {"measurements": records.MEASUREMENTS, "predictions": records.PREDICTIONS}


def row_schema(name: str) -> dict:
    return yaml.safe_load((ROOT / f"workflow/schemas/{name}.schema.yaml").read_text())


def test_workflow_and_package_read_the_same_schema():
    assert (ROOT / "workflow/schemas").resolve() == ROOT / "src/footprint/experiment/schemas"


def test_the_schema_is_valid_and_snakemake_accepts_the_published_config_by_it():
    jsonschema.Draft202012Validator.check_schema(config_schema())
    validate(load(CONFIG / "config.yaml"), str(ROOT / "workflow/schemas/config.schema.yaml"))


def objects(schema: object) -> list[dict]:
    """Every part of the schema that describes a mapping."""
    if isinstance(schema, list):
        return [found for item in schema for found in objects(item)]
    if not isinstance(schema, dict):
        return []
    return [schema] * (schema.get("type") == "object") + [f for item in schema.values() for f in objects(item)]


def test_no_mapping_of_the_schema_lets_an_unknown_key_pass():
    assert len(objects(config_schema())) == 13
    assert all(found["additionalProperties"] is False for found in objects(config_schema()))


def test_every_key_of_the_schema_has_a_description_and_every_optional_one_a_default():
    for found in objects(config_schema()):
        for key, entry in found.get("properties", {}).items():
            assert entry["description"].endswith("."), key
            assert ("default" in entry) != (key in found.get("required", ())), key


@pytest.mark.parametrize(("part", "kind"), [("model", ModelSpec), ("training", TrainingSpec), ("corpus", CorpusSpec)])
def test_keys_and_defaults_of_the_schema_are_those_of_the_dataclasses(part, kind):
    properties = config_schema()["$defs"][part]["properties"]
    given = {field.name: field for field in fields(kind) if field.name != "name"}
    assert set(properties) == set(given)
    for key, entry in properties.items():
        if "default" in entry:
            assert entry["default"] == given[key].default, key


def test_axes_and_defaults_of_the_schema_are_those_of_the_run_spec():
    properties = config_schema()["$defs"]["grid"]["properties"]
    defaults = {axis: entry["default"] for axis, entry in properties.items() if "default" in entry}
    assert tuple(properties) == (*AXES, "seed")  # which sub-grids of a quality study have
    assert defaults == AXIS_DEFAULTS | {"seed": 0}


def test_the_schema_allows_the_values_the_specs_know():
    allowed = {name: entry["enum"] for name, entry in config_schema()["$defs"].items() if "enum" in entry}
    assert allowed == {
        "regime": list(run.REGIMES),
        "checkpointing": list(CHECKPOINTING),
        "precision": list(PRECISIONS),
        "optimizer": list(run.OPTIMIZERS),
        "quantization": [*run.QUANTIZATIONS, "none"],
        "stack": list(recipe.STACKS),
        "sharding": list(run.SHARDINGS),
    }
    assert all(config_schema()["$defs"][name]["x-any-case"] for name in allowed)
    assert all(name in config_schema()["$defs"]["linears"]["x-allowed"] for name in model.TARGETS)
    assert config_schema()["properties"]["device"]["enum"] == list(run.DEVICES)
    assert config_schema()["$defs"]["model"]["properties"]["block"]["enum"] == list(model.BLOCKS)


def test_the_manual_lists_every_key_with_its_default():
    rows = re.findall(r"^\| `([\w.]+)` \| ([^|]*) \|", (CONFIG / "README.md").read_text(), flags=re.MULTILINE)
    manual = {(key.split(".")[-1], default.strip(" `")) for key, default in rows}
    for found in objects(config_schema()):
        for key, entry in found.get("properties", {}).items():
            if "properties" in entry:
                continue  # its keys stand in the table instead
            default = entry.get("default", "required")
            if default is None:  # it has a meaning of its own, which the manual words
                assert key in {name for name, _ in manual}, key
            else:
                assert (key, str(default).lower() if isinstance(default, bool) else str(default)) in manual, key


@pytest.mark.parametrize("name", ROWS)
def test_the_schema_of_a_row_has_the_columns_of_the_table_in_order(name):
    schema = row_schema(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["additionalProperties"] is False
    assert tuple(schema["properties"]) == tuple(schema["required"]) == ROWS[name]
    assert all(entry["description"].endswith(".") for entry in schema["properties"].values())


_COUNTS = tuple({"$ref": f"#/$defs/{name}"} for name in ("count", "count_on_a_card"))


@pytest.mark.parametrize("name", ROWS)
def test_the_whole_numbers_of_a_row_are_those_of_the_table(name):
    schema = row_schema(name)
    whole_kinds = ({"type": "integer", "minimum": 0}, {"type": "integer", "minimum": 1}, *_COUNTS)
    entries = {column: dict(entry) for column, entry in schema["properties"].items()}
    whole = {column for column, entry in entries.items() if entry.pop("description") and entry in whole_kinds}
    assert whole == set(records.INTEGERS) & set(ROWS[name])
