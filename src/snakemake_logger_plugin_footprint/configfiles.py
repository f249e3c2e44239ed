"""Config files of this project are plain YAML, also for Snakemake, which reads them before any rule file can object.

By itself it runs the Python in a `__use_yte__` template, and a file that is absent or not UTF-8 ends in a traceback.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from snakemake.common import configfile
from snakemake.settings import types

from footprint.errors import user_errors
from footprint.experiment.yaml_file import load
from snakemake_logger_plugin_footprint.clone import in_clone

Reader = Callable[[Path], Mapping]


def read_strictly() -> None:
    """Let Snakemake read what --configfile names with the reader of this project."""
    reader = strict(configfile.load_configfile)
    configfile.load_configfile = types.load_configfile = reader


def strict(usual: Reader) -> Reader:
    """A reader that refuses what `footprint.experiment.yaml_file` refuses in one sentence, with exit status 2.

    Workflows of others in the same environment keep the `usual` one: it counts from where Snakemake is started.
    """

    def read(path: Path) -> Mapping:
        if not in_clone():
            return usual(path)
        with user_errors():
            return load(Path(path))

    return read
