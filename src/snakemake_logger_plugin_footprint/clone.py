"""Whether Snakemake is at work on this project. Its plugins also see the workflows of others in one environment."""

from pathlib import Path


def in_clone() -> bool:
    """Whether Snakemake was started in a clone of this project; it counts from there."""
    return Path("src/footprint").is_dir()
