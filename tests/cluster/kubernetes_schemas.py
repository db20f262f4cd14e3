"""Kubernetes' own types, as the package kubernetes-validate has them: strict, so unknown fields are problems."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

VERSIONS = [f"1.{minor}" for minor in range(30, 38)]


def problems(thing: dict[str, Any], version: str) -> list[str]:
    """What a version of Kubernetes would refuse in an object; kinds that it does not know raise FileNotFoundError."""
    validator = _validator(version, thing["apiVersion"], thing["kind"])
    return [f"{thing['kind']} {error.json_path}: {error.message}" for error in validator.iter_errors(thing)]


@cache
def _validator(version: str, api_version: str, kind: str) -> Draft202012Validator:
    group, _, of_group = api_version.rpartition("/")
    name = f"{kind}-{group.split('.')[0]}-{of_group}" if group else f"{kind}-{of_group}"
    schema = _read(version, f"{name.lower()}.json")
    return Draft202012Validator(schema, registry=_definitions(version))


@cache
def _definitions(version: str) -> Registry[Any]:
    return Resource.from_contents(_read(version, "_definitions.json")) @ Registry()


def _read(version: str, name: str) -> Any:
    folder = files("kubernetes_validate") / "kubernetes-json-schema" / f"v{version}.0-local-strict"
    return json.loads((folder / name).read_text(encoding="utf-8"))
