"""Options of overlay factories: their types, ranges and defaults, and validation before a factory is called."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticUndefined

from scrfd_trt._options import explain, reason
from scrfd_trt.errors import OptionError, unknown_name

Factory = Callable[..., Any]


class Limits(NamedTuple):
    """Inclusive (``ge``, ``le``) and exclusive bounds of a number; None if there is none."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None

    def __str__(self) -> str:
        """Return for example ``0 to 1`` or ``above 0``; empty if there is no bound."""
        start = f"{self.ge:g}" if self.ge is not None else f"above {self.gt:g}" if self.gt is not None else ""
        end = f"{self.le:g}" if self.le is not None else f"below {self.lt:g}" if self.lt is not None else ""
        if start and end:
            return f"{start} to {end}"
        if self.ge is not None:
            return f"at least {start}"
        return f"at most {end}" if self.le is not None else start or end


class OptionHelp(NamedTuple):
    """One option of an overlay, for help texts.

    Attributes
    ----------
    type
        ``number``, ``integer``, ``text``, ``path``, ``colour``, ``true or false``, ``list``, the choices as in
        ``gaussian | pixelate``, or ``any`` if the type is unknown.
    default
        None also if the option is required.
    range
        For example ``0 to 1`` or ``above 0``; empty if there is no limit.
    description
        One sentence, or empty.
    choices
        All allowed values, or empty if they cannot be listed.
    limits
        The range as numbers.
    """

    name: str
    type: str
    default: Any
    required: bool
    range: str
    description: str
    choices: tuple[str, ...] = ()
    limits: Limits = Limits()

    @property
    def example(self) -> str:
        """The option in the text form of :func:`overlays.parse`, with a placeholder: ``picture=FILE``."""
        return f"{self.name}={'FILE' if self.type == 'path' else self.type.upper()}"


def is_model(factory: Any) -> bool:
    """Return whether a factory is a pydantic model, whose fields are the options."""
    return isinstance(factory, type) and issubclass(factory, BaseModel)


def option_help(factory: Factory) -> tuple[OptionHelp, ...]:
    """Describe the options of a pydantic model by its fields, of another callable by its signature."""
    if is_model(factory):
        fields = factory.model_fields  # type: ignore[attr-defined]  # is_model
        return tuple(
            _describe(name, Annotated[field.annotation, field], field.default, field.is_required())
            for name, field in fields.items()
        )
    return tuple(
        _describe(name, item.annotation, item.default, item.default is inspect.Parameter.empty)
        for name, item in _keyword_parameters(factory).items()
    )


def check_options(name: str, factory: Factory, options: Mapping[str, Any]) -> dict[str, Any]:
    """Validate options of the overlay ``name`` against the signature of a factory that is no pydantic model.

    Text is converted to the type of the parameter's annotation; other values are left to the factory. Raise
    ``OptionError`` if an option is unknown or missing, or its text cannot be converted.
    """
    known = _keyword_parameters(factory)
    takes_any = any(item.kind is inspect.Parameter.VAR_KEYWORD for item in _parameters(factory).values())
    for option in options:
        if option not in known and not takes_any:
            raise OptionError(f"overlay {name!r}: {unknown_name('option', option, tuple(known))}")
    missing = [key for key, item in known.items() if item.default is inspect.Parameter.empty and key not in options]
    if missing:
        raise OptionError(_missing(name, factory, missing))
    return {key: _convert(name, key, value, known) for key, value in options.items()}


def explain_rejection(name: str, factory: Factory, error: ValidationError) -> str:
    """Return on one line why pydantic rejects the options of the overlay ``name``."""
    if not is_model(factory):
        return f"overlay {name!r}: {' '.join(str(error).split())}"
    items = error.errors(include_url=False, include_context=False)
    if all(item["type"] == "missing" for item in items):
        return _missing(name, factory, [str(item["loc"][0]) for item in items])
    return f"overlay {name!r}: {explain(factory, error)}"  # type: ignore[arg-type]  # is_model


def _missing(name: str, factory: Factory, missing: list[str]) -> str:
    first = next(option for option in option_help(factory) if option.name == missing[0])
    return f"overlay {name!r} requires {', '.join(missing)}: for example {name}:{first.example}"


def _parameters(factory: Factory) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(factory, eval_str=True).parameters
    except NameError:  # annotations for type checkers only
        return inspect.signature(factory).parameters
    except (TypeError, ValueError):  # callables written in C
        return {"options": inspect.Parameter("options", inspect.Parameter.VAR_KEYWORD)}


def _keyword_parameters(factory: Factory) -> dict[str, inspect.Parameter]:
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: item for name, item in _parameters(factory).items() if item.kind in kinds}


def _adapter(annotation: Any) -> TypeAdapter[Any] | None:
    if annotation is inspect.Parameter.empty or isinstance(annotation, str):
        return None
    try:
        return TypeAdapter(annotation)
    except PydanticUserError:  # a type that pydantic does not support
        return None


def _convert(name: str, key: str, value: Any, known: Mapping[str, inspect.Parameter]) -> Any:
    adapter = _adapter(known[key].annotation) if key in known and isinstance(value, str) else None
    if adapter is None:
        return value
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise OptionError(f"overlay {name!r}: {key}: {reason(first)} (it is {value!r})") from error


def _describe(name: str, annotation: Any, default: Any, required: bool) -> OptionHelp:
    adapter = _adapter(annotation)
    try:
        schema = {} if adapter is None else adapter.json_schema()
    except PydanticUserError:  # a type without a JSON schema
        schema = {}
    shown = None if required or default is PydanticUndefined else default
    description = " ".join(str(schema.get("description", "")).split())
    branches = _branches(schema, schema)
    types = list(dict.fromkeys(text for part in branches for text in _choices(part) or [_type(part)]))
    choices = tuple(types) if all(map(_choices, branches)) else ()
    limits = next((found for found in map(_limits, branches) if found != Limits()), Limits())
    return OptionHelp(name, " | ".join(types) or "any", shown, required, str(limits), description, choices, limits)


def _branches(schema: Mapping[str, Any], root: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the alternatives of a schema with references resolved, without null."""
    if "$ref" in schema:
        return _branches(root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return [part for item in schema[key] for part in _branches(item, root)]
    return [] if schema.get("type") == "null" else [schema]


def _choices(part: Mapping[str, Any]) -> list[str]:
    return [str(choice) for choice in part.get("enum", [part["const"]] if "const" in part else [])]


def _type(part: Mapping[str, Any]) -> str:
    by_format = {"path": "path", "file-path": "path", "directory-path": "path", "color": "colour"}
    by_type = {"number": "number", "integer": "integer", "boolean": "true or false", "array": "list", "string": "text"}
    return by_format.get(str(part.get("format"))) or by_type.get(str(part.get("type")), "any")


def _limits(part: Mapping[str, Any]) -> Limits:
    return Limits(*(part.get(key) for key in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")))
