"""What the Guide's programs pass, and what Majordomo takes."""

from __future__ import annotations

import logging

from majordomo import errors


def text(name: str | bytes) -> str:
    """Return a service name or an endpoint as text."""
    if isinstance(name, str):
        return name
    try:
        return name.decode()
    except UnicodeDecodeError as failure:
        raise errors.InvalidArgument(f"{name!r} is not UTF-8 text") from failure


def logger(name: str, verbose: bool) -> logging.Logger:
    """Return the logger of a class, set up to be seen where the program asked for it."""
    if verbose:
        logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
    return logging.getLogger(f"majordomo.compat.{name}")
