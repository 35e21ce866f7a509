"""The models known by name, and those on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from . import _echo, _jobs

if TYPE_CHECKING:
    from ._types import OnDownload

__all__ = ["CatalogEntry", "StoredModel", "catalog", "list", "path", "pull", "remove", "root", "verify"]


class CatalogEntry(NamedTuple):
    """A model known by name."""

    name: str
    aliases: tuple[str, ...]
    licence: str
    size_bytes: int
    is_multilingual: bool
    repository: str


class StoredModel(NamedTuple):
    """A model on this machine."""

    name: str
    path: Path
    source: str
    size_bytes: int


def catalog() -> tuple[CatalogEntry, ...]:
    """Every model known by name."""
    return tuple(
        CatalogEntry(name, tuple(aliases), licence, size_bytes, is_multilingual, repository)
        for name, aliases, licence, size_bytes, is_multilingual, repository in _echo.catalog()
    )


def root(*, cache: str | os.PathLike[str] | None = None) -> Path:
    """The folder that models are in."""
    return Path(_echo.store_root(cache))


def list(*, cache: str | os.PathLike[str] | None = None) -> tuple[StoredModel, ...]:
    """The models in the store."""
    return tuple(_stored(model) for model in _echo.list_models(cache))


def path(name: str, *, cache: str | os.PathLike[str] | None = None) -> Path:
    """Where a model is; downloads nothing."""
    return Path(_echo.model_path(name, cache))


def pull(
    name: str,
    *,
    cache: str | os.PathLike[str] | None = None,
    offline: bool | None = None,
    on_download: OnDownload | None = None,
) -> StoredModel:
    """The model, downloaded if it is not here."""
    return _stored(_jobs.finish(_echo.pull(name, cache, offline), None, on_download))


def verify(name: str, *, cache: str | os.PathLike[str] | None = None) -> None:
    """Reads all files of a model and compares them with their hashes."""
    _jobs.finish(_echo.verify(name, cache))


def remove(name: str, *, cache: str | os.PathLike[str] | None = None) -> bool:
    """Deletes a model from the store; says whether it was there."""
    return _echo.remove(name, cache)


def _stored(model: tuple[str, os.PathLike[str] | str, str, int]) -> StoredModel:
    name, place, source, size_bytes = model
    return StoredModel(name, Path(place), source, size_bytes)
