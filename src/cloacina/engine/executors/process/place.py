"""The place of a function or class: the module and the name under which another process finds it.

A child imports what it runs, as any program would, so only what stands at the top level of a module (or of a
class there) can be run in one. The main module is no exception: it is run again in the child, under the name
``__mp_main__``, so that what stands below ``if __name__ == "__main__":`` does not happen twice.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import runpy
import sys
import types
from pathlib import Path
from typing import Any, cast

import msgspec

from cloacina.errors import RunnerClosed, ValidationError
from cloacina.model.task import Task

_MAIN, _MAIN_IN_CHILD = "__main__", "__mp_main__"


class Place(msgspec.Struct, frozen=True, array_like=True):
    """A module, and the name in it, with dots for what stands in classes."""

    module: str
    name: str

    def find(self) -> object:
        """What is there, imported if need be. Raises what the import raises."""
        _loading.append(self)
        try:
            return self._within(importlib.import_module(self.module))
        finally:
            _loading.pop()

    def find_loaded(self) -> object:
        """What is there, or None."""
        try:
            return self._within(sys.modules[self.module])
        except (KeyError, AttributeError):
            return None

    def _within(self, module: types.ModuleType) -> object:
        return functools.reduce(cast(Any, getattr), self.name.split("."), module)

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class MainModule(msgspec.Struct, frozen=True, array_like=True):
    """Where the main module of a program comes from: its name (``python -m``), else its file."""

    name: str | None
    path: bytes | None


def place_of(thing: object) -> Place:
    """Where another process finds the function or class ``thing``.

    Raises `ValidationError`, with the remedy, if that is nowhere.
    """
    if isinstance(thing, functools.partial):
        raise ValidationError(
            "a functools.partial has no name under which another process finds it: write a function that makes "
            "the call, at the top level of a module"
        )
    if inspect.ismethod(thing) and not isinstance(thing.__self__, type):
        raise ValidationError(
            f"{thing.__qualname__} is bound to an object of this process: write a function that makes the object "
            "and calls its method, at the top level of a module"
        )
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str):
        raise ValidationError(
            f"an object of class {type(thing).__qualname__} has no name under which another process finds it: write "
            "a function that makes the object and calls it, at the top level of a module"
        )
    place = Place(module, name)
    if "<" in name:  # <locals>, <lambda>
        raise ValidationError(
            f"{place} is made while the program runs, where no other process finds it: move it to the top level "
            "of a module"
        )
    if module in (_MAIN, _MAIN_IN_CHILD) and main_module() is None:
        raise ValidationError(
            f"{name} was typed into a prompt or a notebook, and another process has no file to import it from: "
            "write it into a module of its own, and import that"
        )
    if not _is_same(place.find_loaded(), thing):
        raise ValidationError(
            f"another process that looks for {place} finds something else there, or nothing: keep the function "
            "under its own name, at the top level of a module"
        )
    return place


def main_module() -> MainModule | None:
    """Where this program's main module comes from; None if it has neither a name nor a file."""
    module = sys.modules.get(_MAIN)
    name = getattr(getattr(module, "__spec__", None), "name", None)
    if isinstance(name, str):
        return MainModule(name, None)
    path = getattr(module, "__file__", None)
    if isinstance(path, str) and Path(path).is_file():
        return MainModule(None, os.fsencode(Path(path).absolute()))
    return None


def load_main(main: MainModule) -> None:
    """Run the main module of the parent in this process, but for what stands below its guard."""
    path = os.fsdecode(main.path or b"")
    place = Place(main.name or path, _MAIN_IN_CHILD)
    _loading.append(place)
    try:
        if main.name is not None:
            content = runpy.run_module(main.name, run_name=_MAIN_IN_CHILD, alter_sys=True)
        else:
            content = runpy.run_path(path, run_name=_MAIN_IN_CHILD)
    finally:
        _loading.pop()
    module = types.ModuleType(_MAIN_IN_CHILD)
    vars(module).update(content)
    sys.modules[_MAIN] = sys.modules[_MAIN_IN_CHILD] = module


def is_main(place: Place) -> bool:
    """True if the place is in the main module of the program."""
    return place.module in (_MAIN, _MAIN_IN_CHILD)


def refuse_while_loading() -> None:
    """Raise `RunnerClosed` if a child is loading the module of a body: a runner does not belong there."""
    if _loading:
        raise RunnerClosed(
            f"a runner is started while {_loading[-1].module} is loaded in a child process, to run one of its bodies: "
            "put the lines that start it below `if __name__ == '__main__':`"
        )


_loading: list[Place] = []


def _is_same(found: object, thing: object) -> bool:
    inner: object = found.fn if isinstance(found, Task) else found
    return inner is thing or (inspect.ismethod(thing) and inner == thing)
