"""A Snakemake plugin: `--logger footprint` for a calm terminal, and a config that is read strictly from the first byte.

Snakemake finds it by its name and imports it before it reads any file, whether or not the logger is asked for.
"""

import sys
from pathlib import Path

# Before anything of footprint is imported: the clone that Snakemake is started in runs its own source, whichever clone
# the environment was installed from.
if Path("src/footprint").is_dir():
    sys.path.insert(0, str(Path("src").resolve()))

from snakemake_logger_plugin_footprint.commandline import parse_strictly
from snakemake_logger_plugin_footprint.configfiles import read_strictly
from snakemake_logger_plugin_footprint.terminal import LogHandler

__all__ = ["LogHandler"]

parse_strictly()
read_strictly()
