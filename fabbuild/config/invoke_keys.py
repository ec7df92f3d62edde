"""Read fabbuild's keys of Invoke's configuration, and its environment variables where Invoke passes them over."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from fabbuild.config.settings import OPTIONS

#: The key of Invoke's configuration under which all keys of fabbuild are.
KEY = "fabbuild"

#: The keys under it that are no options of ``build``.
NO_BUILD_OPTIONS = ("ssh_config", "toolchain_url")

#: All keys.
KEYS = (*OPTIONS, *NO_BUILD_OPTIONS)


def variables_begin(config: Any) -> str:
    """Return the prefix of fabbuild's environment variables, which differs between ``fab`` and ``inv``."""
    return f"{config.env_prefix or config.prefix}_{KEY}_".upper()


def configured(config: Any) -> Mapping[str, object]:
    """Return the keys and values of a configuration of Invoke.

    Invoke reads environment variables for declared keys alone, and only the whole collection declares them. So for
    other keys, where tasks were added one by one, the variables are read here.
    """
    found: dict[str, object] = dict(config.get(KEY) or {})
    begin = variables_begin(config)
    for key in KEYS:
        value = os.environ.get(begin + key.upper())
        if key not in found and value is not None:
            found[key] = value
    return found
