"""Config files read as plain data: safe YAML without tags, anchors and repeated keys, laid one over the other."""

from pathlib import Path

import yaml

from footprint.errors import FootprintError
from footprint.files import read_bounded

LARGEST_FILE = 2**20
"""Bytes of one config file."""

DEEPEST = 16
"""Levels of nesting; the config's schema has four."""


def load(*paths: Path) -> dict:
    """The config in one or more YAML files, later ones laid over earlier ones: mappings merge, lists are replaced.

    Raises FootprintError naming the file and the line for anything but plain YAML of moderate size in UTF-8.
    """
    merged: dict = {}
    for path in paths:
        merged = _laid_over(merged, _read(Path(path)))
    return merged


class _PlainLoader(yaml.SafeLoader):
    """Safe YAML without what a config does not need and a reviewer would miss: tags, anchors, repeated keys."""

    level = 0

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node:
        event = self.peek_event()
        if event.anchor is not None:
            raise _problem("anchors and aliases (& and *) are not allowed; write the value out", event.start_mark)
        if event.tag is not None:
            raise _problem("tags (!) are not allowed; write plain values", event.start_mark)
        if self.level == DEEPEST:
            raise _problem(f"more than {DEEPEST} levels of nesting are not allowed", event.start_mark)
        self.level += 1
        node = super().compose_node(parent, index)
        self.level -= 1
        return node

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        digits = self.construct_scalar(node).lstrip("+-")
        if ":" in digits or (digits[0] == "0" and digits.isdigit() and len(digits) > 1):
            raise _problem(f"{digits} would be read in base 60 or 8; write a plain number", node.start_mark)
        return super().construct_yaml_int(node)

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if key.tag != self.DEFAULT_SCALAR_TAG:
                raise _problem("a key must be text; put it in quotes or name it differently", key.start_mark)
            if key.value in seen:
                raise _problem(f"the key {key.value[:60]!r} stands here twice; keep one", key.start_mark)
            seen.add(key.value)
        return node


_PlainLoader.add_constructor("tag:yaml.org,2002:int", _PlainLoader.construct_yaml_int)


def _problem(sentence: str, mark: yaml.Mark) -> yaml.YAMLError:
    return yaml.MarkedYAMLError(problem=sentence, problem_mark=mark)


def _read(path: Path) -> dict:
    text = _text(path)
    try:
        document = yaml.load(text, Loader=_PlainLoader)
    except yaml.YAMLError as error:
        raise FootprintError(f"{path}: {_sentence(error)}") from None
    except ValueError as error:  # a date that does not exist, a number of 5,000 digits
        raise FootprintError(f"{path}: holds a value that cannot be read ({error}); put text in quotes") from None
    if not isinstance(document, dict):
        raise FootprintError(f"{path}: holds no keys; use lines such as `experiment: ablation`")
    if "__use_yte__" in document:  # Snakemake evaluates those itself, before it comes here
        raise FootprintError(f"{path}: templates (__use_yte__) are not allowed; write plain values")
    return document


def _text(path: Path) -> str:
    try:
        content = read_bounded(path, LARGEST_FILE)
    except OSError as error:
        raise FootprintError(f"{path}: cannot be read as a config file ({error.strerror})") from None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FootprintError(f"{path}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from None


def _sentence(error: yaml.YAMLError) -> str:
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None or problem is None:
        return f"is not YAML ({' '.join(str(error).split())[:200]})"
    advice = "; indent with spaces, not tabs" if "\\t" in problem else ""
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}{advice}"


def _laid_over(base: object, over: object) -> object:
    """Snakemake's own rule for --configfile, so that files mean the same read here or there."""
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    return base | {key: _laid_over(base[key], value) if key in base else value for key, value in over.items()}
