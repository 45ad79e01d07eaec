"""The failures: one table for all languages."""

from __future__ import annotations

import pickle

import pytest

import majordomo
from majordomo import _majordomo, errors


@pytest.mark.parametrize(("number", "kind", "name", "retryable", "description"), _majordomo.error_table())
def test_each_kind_of_the_core_has_its_class(
    number: int, kind: str, name: str, retryable: bool, description: str
) -> None:
    (found,) = [error for error in majordomo.MajordomoError.__subclasses__() if error.code == number]
    assert (found.kind, found.name, found.retryable) == (kind, name, retryable)
    assert getattr(majordomo, found.__name__) is found
    assert found.__doc__ is not None
    # The classes' own words: they start with those of the table, or are about Python.
    assert found is majordomo.ServiceError or found.__doc__.startswith(description)


def test_there_is_no_class_without_a_kind() -> None:
    assert len(majordomo.MajordomoError.__subclasses__()) == len(_majordomo.error_table())
    assert sorted(errors.__all__) == sorted(name for name in majordomo.__all__ if name in errors.__all__)


def test_kinds_that_python_knows_are_also_its_own() -> None:
    assert issubclass(majordomo.RequestTimeout, TimeoutError)
    assert issubclass(majordomo.BrokerUnreachable, ConnectionError)
    assert issubclass(majordomo.InvalidArgument, ValueError)
    assert issubclass(majordomo.TooLarge, ValueError)


def test_a_service_error_keeps_code_and_text_when_pickled() -> None:
    failure = pickle.loads(pickle.dumps(majordomo.ServiceError(404, "no such page")))
    assert isinstance(failure, majordomo.ServiceError)
    assert (failure.service_code, failure.text) == (404, "no such page")
    assert "404 no such page" in str(failure)
