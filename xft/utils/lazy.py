"""Import the modules of a package when one of their names is first used."""

from collections.abc import Callable, Mapping
from importlib import import_module


def lazy_names(package: str, modules: Mapping[str, str]) -> Callable[[str], object]:
    """Return the ``__getattr__`` of a package (PEP 562).

    Args:
        package: name of the package.
        modules: name that the package exports to the module that defines it.
    """

    def get(name: str) -> object:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = vars(import_module(modules[name]))[name]
        vars(import_module(package))[name] = value
        return value

    return get
