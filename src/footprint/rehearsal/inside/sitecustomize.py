"""Python imports this by itself in every process of a rehearsal; it attaches to PyTorch as soon as that is imported."""

import os
import sys
from importlib.util import find_spec, module_from_spec

_HERE = os.path.dirname(os.path.abspath(__file__))


class _Attach:
    """A finder that lets PyTorch be imported as ever, then attaches the rehearsal to it.

    It stays: whoever only asks whether there is a PyTorch, as Transformers does, has not imported it yet.
    """

    def __init__(self):
        self._asking = False

    def find_spec(self, name, path=None, target=None):
        if name != "torch" or self._asking:
            return None
        self._asking = True
        try:
            spec = find_spec(name)
        finally:
            self._asking = False
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            sys.path.insert(0, _HERE)
            from footprint_inside import watching

            sys.path.remove(_HERE)
            watching.attach(module)

        spec.loader.exec_module = exec_module
        return spec


def _import_the_other_one():
    """A sitecustomize of the machine's own, which this one hides."""
    sys.path[:] = [folder for folder in sys.path if os.path.abspath(folder or ".") != _HERE]
    own = sys.modules.pop("sitecustomize", None)
    spec = find_spec("sitecustomize")
    if spec is None or spec.loader is None:
        sys.modules["sitecustomize"] = own
        return
    module = sys.modules["sitecustomize"] = module_from_spec(spec)
    spec.loader.exec_module(module)


if os.environ.get("FOOTPRINT_REHEARSAL"):
    sys.meta_path.insert(0, _Attach())
_import_the_other_one()
