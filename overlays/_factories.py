"""What can be known of a factory before it is called: its options, their types and ranges."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticUndefined

from scrfd_trt._options import explain
from scrfd_trt.errors import OptionError

Factory = Callable[..., Any]


class Limits(NamedTuple):
    """Bounds of a number, None where there is none.

    Attributes
    ----------
    ge, le : float or None
        Lowest and highest value allowed.
    gt, lt : float or None
        Values that it must lie above and below.
    """

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None

    def __str__(self) -> str:
        """Return for example ``0 to 1`` or ``above 0``, and nothing where there is no limit."""
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
    name : str
        As it is written in ``name=value``.
    type : str
        ``number``, ``integer``, ``text``, ``path``, ``colour``, ``true or false``, the choices as ``gaussian |
        pixelate``, or ``any`` where nothing is known.
    default : object
        None also where the option is required.
    required : bool
        Whether there is no default.
    range : str
        For example ``0 to 1`` or ``above 0``; empty where there is no limit.
    description : str
        One sentence, or empty.
    choices : tuple of str
        The values where nothing else is allowed; otherwise empty.
    limits : Limits
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


def is_model(factory: Any) -> bool:
    """Tell whether a factory is a pydantic model, whose fields are the options."""
    return isinstance(factory, type) and issubclass(factory, BaseModel)


def option_help(factory: Factory) -> tuple[OptionHelp, ...]:
    """Describe the options of a factory.

    Parameters
    ----------
    factory
        A pydantic model, described by the JSON schema of its fields, or another callable, described by its signature.

    Returns
    -------
    tuple of OptionHelp
        In the order in which they are declared.
    """
    if is_model(factory):
        fields = factory.model_fields  # type: ignore[attr-defined]  # a model, as is_model tells
        return tuple(
            _help(name, Annotated[field.annotation, field], field.default, field.is_required())
            for name, field in fields.items()
        )
    return tuple(
        _help(name, item.annotation, item.default, item.default is inspect.Parameter.empty)
        for name, item in _by_keyword(factory).items()
    )


def check_options(name: str, factory: Factory, options: Mapping[str, Any]) -> dict[str, Any]:
    """Check options against the signature of a factory that is no pydantic model.

    Parameters
    ----------
    name
        The overlay's, for messages.
    factory
        Any callable.
    options
        Text is converted to what the parameter's annotation asks for; other values are left to the factory.

    Returns
    -------
    dict
        The options to call the factory with.

    Raises
    ------
    OptionError
        If an option is unknown or missing, or its text cannot be converted.
    """
    signature = _signature(factory)
    if signature is None:
        return dict(options)
    known = _by_keyword(factory)
    if not any(item.kind is inspect.Parameter.VAR_KEYWORD for item in signature.parameters.values()):
        for option in options:
            if option not in known:
                raise OptionError(f"overlay {name!r}: {unknown('option', option, tuple(known))}")
    missing = [key for key, item in known.items() if item.default is inspect.Parameter.empty and key not in options]
    if missing:
        raise OptionError(_needs(name, factory, missing))
    return {key: _converted(name, key, value, known) for key, value in options.items()}


def refused(name: str, factory: Factory, error: ValidationError) -> str:
    """Say on one line, by the overlay's name, why a pydantic model refuses its options.

    Parameters
    ----------
    name
        The overlay's.
    factory
        What raised the error.
    error
        What pydantic found.
    """
    if not is_model(factory):
        return f"overlay {name!r}: {' '.join(str(error).split())}"
    items = error.errors(include_url=False, include_context=False)
    if all(item["type"] == "missing" for item in items):
        return _needs(name, factory, [str(item["loc"][0]) for item in items])
    told = explain(factory, error).removeprefix(f"{factory.__name__}: ")  # type: ignore[arg-type]  # a model
    return f"overlay {name!r}: {told}"


def example(name: str, option: OptionHelp) -> str:
    """Write how an option that is needed is given: ``image:picture=FILE``."""
    return f"{name}:{option.name}={'FILE' if option.type == 'path' else option.type.upper()}"


def _needs(name: str, factory: Factory, missing: list[str]) -> str:
    first = next(option for option in option_help(factory) if option.name == missing[0])
    return f"overlay {name!r} needs {', '.join(missing)}: give it as {example(name, first)}"


def unknown(what: str, name: str, choices: tuple[str, ...]) -> str:
    """Say that a name is none of the choices, which they are, and which is close."""
    close = difflib.get_close_matches(name, choices, 1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    plural = f"the {what}s are: {', '.join(choices)}" if choices else f"there are no {what}s"
    return f"no {what} {name!r}; {hint}{plural}"


def _signature(factory: Factory) -> inspect.Signature | None:
    try:
        return inspect.signature(factory, eval_str=True)
    except NameError:  # annotations that only a type checker can read
        return inspect.signature(factory)
    except (TypeError, ValueError):  # callables written in C have none
        return None


def _by_keyword(factory: Factory) -> dict[str, inspect.Parameter]:
    signature = _signature(factory)
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = {} if signature is None else signature.parameters
    return {name: item for name, item in parameters.items() if item.kind in kinds}


def _adapter(annotation: Any) -> TypeAdapter[Any] | None:
    if annotation is inspect.Parameter.empty or isinstance(annotation, str):
        return None
    try:
        return TypeAdapter(annotation)
    except PydanticUserError:  # a class that pydantic knows nothing of
        return None


def _converted(name: str, key: str, value: Any, known: Mapping[str, inspect.Parameter]) -> Any:
    adapter = _adapter(known[key].annotation) if key in known and isinstance(value, str) else None
    if adapter is None:
        return value
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise OptionError(f"overlay {name!r}: {key}: {first['msg']} (it is {value!r})") from error


def _help(name: str, annotation: Any, default: Any, required: bool) -> OptionHelp:
    adapter = _adapter(annotation)
    try:
        schema = {} if adapter is None else adapter.json_schema()
    except PydanticUserError:  # a type that JSON has no word for
        schema = {}
    shown = None if required or default is PydanticUndefined else default
    description = " ".join(str(schema.get("description", "")).split())
    branches = _branches(schema, schema)
    kinds = list(dict.fromkeys(kind for part in branches for kind in _choices(part) or [_kind(part)]))
    choices = tuple(kinds) if all(map(_choices, branches)) else ()
    limits = next((found for found in map(_limits, branches) if found != Limits()), Limits())
    return OptionHelp(name, " | ".join(kinds) or "any", shown, required, str(limits), description, choices, limits)


def _branches(schema: Mapping[str, Any], root: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the alternatives of a schema, without null, references followed."""
    if "$ref" in schema:
        return _branches(root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return [part for item in schema[key] for part in _branches(item, root)]
    return [] if schema.get("type") == "null" else [schema]


def _choices(part: Mapping[str, Any]) -> list[str]:
    return [str(choice) for choice in part.get("enum", [part["const"]] if "const" in part else [])]


def _kind(part: Mapping[str, Any]) -> str:
    by_format = {"path": "path", "file-path": "path", "directory-path": "path", "color": "colour"}
    by_type = {"number": "number", "integer": "integer", "boolean": "true or false", "array": "list", "string": "text"}
    return by_format.get(str(part.get("format"))) or by_type.get(str(part.get("type")), "any")


def _limits(part: Mapping[str, Any]) -> Limits:
    return Limits(*(part.get(key) for key in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")))
