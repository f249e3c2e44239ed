"""The config's JSON schema, and its verdicts as sentences that name the position and what is allowed there."""

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from importlib.resources import files

import jsonschema
import yaml

from footprint.errors import FootprintError
from footprint.experiment.yaml_file import DEEPEST

Position = tuple[str | int, ...]
"""Keys and list indices that lead to a value: ("grids", 1, "rank")."""


@cache
def config_schema() -> dict:
    """The schema of config files, read once."""
    return yaml.safe_load(
        (files("footprint.experiment") / "schemas" / "config.schema.yaml").read_text(encoding="utf-8")
    )


def check(config: Mapping) -> dict:
    """A copy of `config` in plain dicts and lists that the schema accepts; FootprintError names the first fault."""
    plain = _plain(config, ())
    # A misspelt key is named before the one that is missing because of it.
    faults = sorted(_validator().iter_errors(plain), key=lambda fault: fault.validator != "additionalProperties")
    if faults:
        raise FootprintError(_sentence(faults[0]))
    return plain


def _plain(value: object, position: Position) -> object:
    """A copy made of dict, list, str, int, float, bool and None; anything else is refused."""
    where = _where(position)
    if len(position) > DEEPEST:
        raise FootprintError(f"{where[:100]}: lies too deep; use at most {DEEPEST} levels of nesting")
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise FootprintError(f"{where}: has a key that is not text; put its keys in quotes")
        return {key: _plain(item, (*position, key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, (*position, number)) for number, item in enumerate(value)]
    if isinstance(value, int) and value.bit_length() > 63:
        raise FootprintError(f"{where}: a number of {value.bit_length()} bits is not allowed; use at most 63 bits")
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise FootprintError(f"{where}: {type(value).__name__} is not allowed; use text (in quotes), a number or a list")


@cache
def _validator() -> jsonschema.Draft202012Validator:
    base = jsonschema.Draft202012Validator
    # JSON has one kind of number, so 4.0 is an integer to it; as a batch or a rank it would name another file.
    types = base.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
    return jsonschema.validators.extend(base, {"enum": _enum}, type_checker=types)(config_schema())


def _enum(validator: jsonschema.protocols.Validator, allowed: list, value: object, schema: Mapping) -> Iterator:
    """JSON Schema's `enum`; where the schema says x-any-case, QLoRA is qlora."""
    if schema.get("x-any-case") and isinstance(value, str):
        value = value.lower()
    yield from jsonschema.Draft202012Validator.VALIDATORS["enum"](validator, allowed, value, schema)


def _sentence(fault: jsonschema.ValidationError) -> str:
    position, schema, value = tuple(fault.absolute_path), fault.schema, fault.instance
    if fault.validator == "additionalProperties":
        return _about_unknown_key(position, value, schema)
    if fault.validator == "required":
        missing = next(key for key in schema["required"] if key not in value)
        return f"{_where((*position, missing))}: is missing; it is required ({_purpose(schema, missing)})"
    allowed = _allowed(schema)
    if isinstance(value, str) and "integer" in schema.get("type", ()) and re.fullmatch(r"[+-]?\d+", value):
        allowed += ", unquoted (numbers nested in --config arrive as text: write them in a file for --configfile)"
    return f"{_where(position)}: {_shown(value)} is not allowed; use {allowed}"


def _about_unknown_key(position: Position, value: Mapping, schema: Mapping) -> str:
    if "patternProperties" in schema:
        pattern = re.compile(next(iter(schema["patternProperties"])))
        name = next(key for key in value if not pattern.search(key))
        return f"{_where(position)}: {_shown(name)} is not allowed; use {config_schema()['$defs']['name']['x-allowed']}"
    known = schema["properties"]
    key = next(key for key in value if key not in known)
    near = get_close_matches(key, known, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"{_where((*position, key))}: unknown key{hint}; use one of {', '.join(known)}"


def _purpose(schema: Mapping, key: str) -> str:
    entry = schema["properties"][key]
    return entry["description"].rstrip(".") if "description" in entry else _allowed(entry)


def _allowed(schema: Mapping) -> str:
    if "x-allowed" in schema:
        return schema["x-allowed"]
    if "enum" in schema:
        return "one of " + ", ".join("null" if name is None else name for name in schema["enum"])
    if schema["type"] == "boolean":
        return "true or false"
    if schema["type"] == "object":
        return f"a mapping with the keys {', '.join(schema['properties'])}"
    return f"a whole number from {schema['minimum']} to {schema['maximum']}"


def _shown(value: object) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _where(position: Position) -> str:
    """`grids[1].rank` for ("grids", 1, "rank"); a key that is not a word is quoted."""
    text = ""
    for part in position:
        word = isinstance(part, str) and re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", part)
        text += f".{part}" if word else f"[{_shown(part)}]"
    return text.removeprefix(".") or "config"
