"""Code of the user's own, which a config names as "my_module:my_function".

It is imported from the Python path. Its source can be found, and its checksum taken, without running it.
"""

import hashlib
import importlib
import importlib.util
import re
import sys
import sysconfig
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from etils import epath

from ddpm_jax.runtime import files, paths

NAME = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)")
# Config fields whose value may be such a name or, of the last, a tuple of them.
FIELDS = (
    "data.name",
    "model.name",
    "diffusion.schedule.name",
    "diffusion.output",
    "diffusion.variance",
    "diffusion.loss",
    "diffusion.timesteps",
    "diffusion.log_cdf",
    "train.grid.solver",
    "sample.solver",
    "eval.quality.metrics",
)
PACKAGES = "site-packages", "dist-packages"  # folders of installed packages


def is_name(value: Any) -> bool:
    """Returns whether a config's value names user code: "module:object"."""
    return isinstance(value, str) and NAME.fullmatch(value) is not None


def load(field: str, name: str) -> Any:
    """Imports and returns "module:object". Raises ValueError, in one line, if that fails."""
    assert field in FIELDS, f"what {field} names escapes the rule of config/provenance.py"
    check_exists(field, name)
    module, attribute = name.split(":")
    try:
        loaded = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # a module is a program
        problem = f"importing {module} failed: {type(error).__name__}: {error}"
        raise ValueError(f"{field} is {name}, and {problem}") from error
    if not hasattr(loaded, attribute):
        public = [each for each in vars(loaded) if not each.startswith("_")]
        hint = f"; {files.suggest(attribute, public)}" if public else ""
        raise ValueError(f"{field} is {name}, but {module} has no {attribute}{hint}")
    return getattr(loaded, attribute)


def check_exists(field: str, name: str) -> None:
    """Raises ValueError unless the name has the form of one, and its module is on the Python path."""
    if not is_name(name):
        raise ValueError(f"{field} is {name!r}; name code of your own as my_module:my_function")
    module = name.split(":")[0]
    if find_specs(module):
        return
    if module.endswith(".py"):
        raise ValueError(f"{field} is {name}; name the module without its ending .py")
    raise ValueError(
        f"{field} is {name}, but there is no module {module} on the Python path, which begins with"
        f" {sys.path[0] or Path.cwd()}; start in the folder that holds it, or add that folder to"
        " PYTHONPATH"
    )


def find_specs(module: str) -> list[ModuleSpec]:
    """Returns the specs of a module's packages and its own, the outermost first; [] if one is missing.

    Runs none of them, whereas importlib.util.find_spec imports the packages of a module.
    """
    importlib.invalidate_caches()
    names = module.split(".")
    try:
        found = [importlib.util.find_spec(names[0])]
    except ValueError:  # a module without a spec, such as __main__
        return []
    for i in range(1, len(names)):
        package = found[-1]
        if package is None or package.submodule_search_locations is None:
            return []
        inner = ".".join(names[: i + 1])
        found.append(PathFinder.find_spec(inner, list(package.submodule_search_locations)))
    return [spec for spec in found if spec] if all(found) else []


def locations(name: str) -> set[Path]:
    """Returns the paths of the module's file and of its packages' files and folders, and what links lead to."""
    specs = find_specs(name.split(":")[0])
    folders = [folder for spec in specs for folder in spec.submodule_search_locations or ()]
    modules = [spec.origin for spec in specs if spec.has_location and spec.origin]
    found = [Path(path) for path in (*folders, *modules)]
    return {path.parent.resolve() / path.name for path in found} | {
        path.resolve() for path in found
    }


def describe(name: str) -> str:
    """Returns what a checksum covers, as users know it: "my_module.py", or "the package my_package"."""
    top = name.split(":")[0].split(".")[0]
    found = find_specs(top)
    is_package = found and found[0].submodule_search_locations is not None
    return f"the package {top}" if is_package else f"{top}.py"


def is_inside(name: str, folder: epath.Path) -> bool:
    """Returns whether the module, or a package that it is in, lies in a folder."""
    if "://" in str(folder):
        return False
    root = Path(paths.absolute(folder))
    return any(path.is_relative_to(root) for path in locations(name))


def is_installed(name: str) -> bool:
    """Returns whether a name is of the standard library, an installed package, or this one."""
    module = name.split(":")[0].split(".")[0]
    if module in sys.stdlib_module_names or module == __name__.split(".")[0]:
        return True
    libraries = [
        Path(sysconfig.get_path(key)).resolve() for key in ("stdlib", "purelib", "platlib")
    ]
    return any(
        any(path.is_relative_to(library) for library in libraries)
        or set(PACKAGES) & set(path.parts)
        for path in locations(name)
    )


def checksum(name: str) -> str:
    """Returns a checksum of a module or, if it is in a package, of the package's .py files; "" without files."""
    found = find_specs(name.split(":")[0])
    if not found:
        return ""
    top = found[0]
    if top.submodule_search_locations is None:
        roots = [Path(top.origin)] if top.has_location and top.origin else []
    else:
        roots = [Path(folder) for folder in top.submodule_search_locations]
    hasher = hashlib.sha256()
    for root in roots:
        for file in [root] if root.is_file() else sorted(root.rglob("*.py")):
            content = file.read_bytes()
            hasher.update(f"{file.relative_to(root.parent)} {len(content)}\n".encode() + content)
    return hasher.hexdigest()[:16] if roots else ""
