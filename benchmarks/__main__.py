"""Run benchmarks by name, or all of them."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from types import ModuleType

import benchmarks


def modules() -> dict[str, ModuleType]:
    """Return the benchmark modules by name: those of this package that have `measure`."""
    found = {}
    for info in pkgutil.iter_modules(benchmarks.__path__):
        if not info.name.startswith("_"):
            module = importlib.import_module(f"benchmarks.{info.name}")
            if hasattr(module, "measure"):
                found[info.name] = module
    return found


def main() -> int:
    """Print one line a figure; return 1 if a bar was missed."""
    known = modules()
    summary = "\n".join(
        f"  {name:<10} {(module.__doc__ or '').splitlines()[0]}" for name, module in known.items()
    )
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure us and the peer in turn.",
        epilog=f"benchmarks:\n{summary}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which to run; by default all but 'faults'")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    for module in known.values():
        if hasattr(module, "add_options"):
            module.add_options(parser)
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in known]:
        parser.error(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(known)}")
    missed = False
    for name in options.names or [
        name for name, module in known.items() if not hasattr(module, "ONLY_BY_NAME")
    ]:
        for figure in known[name].measure(options):
            print(figure.json() if options.json else figure.line(), flush=True)
            missed |= figure.holds is False
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
