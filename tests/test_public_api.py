"""What `import apr` offers."""

from __future__ import annotations

import pytest

import apr


def test_all_is_sorted_and_is_what_dir_shows() -> None:
    assert apr.__all__ == sorted(apr.__all__)
    assert dir(apr) == apr.__all__


@pytest.mark.parametrize("name", apr.__all__)
def test_every_public_name_is_there_and_described(name: str) -> None:
    value = getattr(apr, name)
    assert value is not None
    if name != "__version__":
        assert value.__doc__ and value.__name__ == name and value.__module__ == apr._HOMES[name]


def test_the_lazy_names_are_those_of_all() -> None:
    assert set(apr._HOMES) | {"__version__"} == set(apr.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'apr' has no attribute 'lod'"):
        _ = apr.lod


def test_the_version_has_three_numbers() -> None:
    assert len([int(part) for part in apr.__version__.split(".")]) == 3
