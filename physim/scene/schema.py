"""The JSON schema of scene files, for completion and checks in editors."""

from __future__ import annotations

from typing import Any

from physim.scene.fields import NAME_PATTERN, quantity_schema
from physim.scene.law_tables import ADDED, ParamSpec, kind_of, law_names, law_params
from physim.scene.learned import TABLES, TEXTS
from physim.scene.spec import ScenePart
from physim.scene.units import NUMBER

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def scene_schema() -> dict[str, Any]:
    """The schema: structure from the models, law names and parameters from the laws' own tables."""
    schema = ScenePart.model_json_schema()
    material = schema["$defs"]["MaterialPart"]
    properties = material["properties"]
    properties |= _parameters("law")
    properties["law"] = {"enum": law_names("law"), "description": "Elastic law, or equation of state of a fluid."}
    properties["include"] = {"type": "string", "description": "A shipped material, or a .yaml file beside the scene."}
    properties["network"] = _network("law")
    properties["learned"] = _learned()
    for part in ADDED:
        names = law_names(part)
        entry = {"law": {"enum": names}, "network": _network(part), **_parameters(part)}
        inner = {"type": "object", "properties": entry, "required": ["law"], "additionalProperties": False}
        properties[part] = {"anyOf": [{"enum": names}, inner], "description": f"The {part} law that is added."}
    material["additionalProperties"] = False
    material.pop("required", None)
    schema["properties"]["materials"]["patternProperties"] = {
        NAME_PATTERN: {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/MaterialPart"}]}
    }
    for node in (*schema["properties"].values(), schema["$defs"]["TracksPart"]["properties"]["points"]):
        if "patternProperties" in node:
            node["additionalProperties"] = False
    for side in schema["$defs"]["WallsPart"]["properties"].values():
        types = schema["$defs"]["WallPart"]["properties"]["type"]["enum"]
        side["anyOf"] = [{"enum": types}, *side["anyOf"]]
    return {"$schema": DIALECT, "title": "physim scene", **{k: v for k, v in schema.items() if k != "title"}}


def _network(part: str) -> dict[str, Any]:
    """Weights of a learned law: a file, or the sizes of the law and a seed."""
    from physim.laws.neural import families_of, family_options

    words = {str: "string", int: "integer", bool: "boolean"}
    options = {
        name: {"type": words[type(option.default)], "description": f"Of {family}; {option.default} unless given."}
        for family in families_of(kind_of(part))
        for name, option in family_options(family).items()
    }
    file = {"type": "string", "description": "A .safetensors file beside the scene."}
    seed = {"type": "integer", "minimum": 0, "description": "Of weights drawn at random; 0 unless given."}
    inner = {"type": "object", "properties": {"file": file, "seed": seed, **options}, "additionalProperties": False}
    return {"anyOf": [file, inner], "description": "Weights of a learned law."}


def _learned() -> dict[str, Any]:
    """What a material says of how it was learned."""
    strain = quantity_schema(NUMBER) | {"description": "Largest norm of the Hencky strain in training."}
    volume = {"type": "array", "items": quantity_schema(NUMBER), "minItems": 2, "maxItems": 2}
    volume["description"] = "Least and largest J in training."
    visited = {"type": "object", "properties": {"strain": strain, "J": volume}, "required": ["strain", "J"]}
    visited["additionalProperties"] = False
    misfit = quantity_schema(NUMBER) | {"description": "Error of the training as a share."}
    entries = {"range": visited, "misfit": misfit, **{key: {"type": "string"} for key in TEXTS}}
    entries["seed"] = {"type": "integer"}
    entries |= {key: {"type": "object", "additionalProperties": {"type": ["number", "string"]}} for key in TABLES}
    told = "How it was learned."
    return {"type": "object", "properties": entries, "additionalProperties": False, "description": told}


def _parameters(part: str) -> dict[str, Any]:
    """Every parameter of every law of a kind."""
    from physim.laws import LAWS
    from physim.laws.neural import families_of, largest_law

    found: dict[str, ParamSpec] = {}
    users: dict[str, list[str]] = {}
    laws = {name: LAWS[name] for name in law_names(part)}
    for name, law in (laws | {n: largest_law(n) for n in families_of(kind_of(part))}).items():
        for key, param in law_params(law).items():
            found.setdefault(key, param)
            users.setdefault(key, []).append(name)
    return {
        key: quantity_schema(param.dimension) | {"description": f"{param.doc} ({', '.join(users[key])})"}
        for key, param in found.items()
    }
