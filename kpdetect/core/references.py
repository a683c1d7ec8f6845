"""Imports objects that a user names as ``module:name``, such as an own architecture or callback."""

import importlib
import importlib.util
import os
import sys
from typing import Any

from kpdetect.core.errors import KpdetectError, unknown_name


def split_reference(reference: str, option: str) -> tuple[str, str]:
    """Splits ``module:name`` and checks that the module can be found, without importing it.

    The current folder is searched too.

    Args:
        reference: The module's dotted name, a colon, and the name of an object in it.
        option: The option that has the reference, for errors.

    Raises:
        KpdetectError: The reference has another form, or there is no such module.

    Example:
        >>> split_reference("math:sqrt", "--function")
        ('math', 'sqrt')
    """
    module, colon, name = reference.partition(":")
    if not (module and colon and name):
        raise KpdetectError(f"{option}: expected module:name, received '{reference}'")
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        found = None
    if found is None:
        raise KpdetectError(
            f"{option} {reference}: no module '{module}' in {os.getcwd()} or in the Python path; "
            "run the command in the module's folder, or set PYTHONPATH"
        )
    return module, name


def import_reference(reference: str, option: str) -> Any:
    """Imports the object that ``module:name`` names. This runs the module, so never pass text from a model file.

    Args:
        reference: The module's dotted name, a colon, and the name of an object in it.
        option: The option that has the reference, for errors.

    Raises:
        KpdetectError: There is no such module or object, or importing it fails.

    Example:
        >>> import_reference("math:sqrt", "--function")(9.0)
        3.0
    """
    module_name, name = split_reference(reference, option)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever the user's module raises
        raise KpdetectError(f"{option} {reference}: importing {module_name} failed: {error}") from error
    if not hasattr(module, name):
        raise unknown_name(f"object of module {module_name}", name, (each for each in vars(module) if each[0] != "_"))
    return getattr(module, name)
