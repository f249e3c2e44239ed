"""What a spec may say, checked where it is made: one sentence names the key, the value and what is allowed."""

from footprint.errors import FootprintError


def require(condition: bool, key: str, value: object, allowed: str) -> None:
    """Raise FootprintError `key: value is not allowed; use ...` unless `condition` holds."""
    if not condition:
        raise FootprintError(f"{key}: {_shown(value)} is not allowed; use {allowed}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def whole(key: str, value: object, low: int, high: int, because: str = "") -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    require(whole and low <= value <= high, key, value, f"a whole number from {low} to {high}{because}")


def one_of(key: str, value: object, names: tuple[str, ...]) -> str:
    """The name that was meant; people write QLoRA and BF16."""
    meant = value.lower() if isinstance(value, str) else value
    require(isinstance(meant, str) and meant in names, key, value, "one of " + ", ".join(names))
    return meant
