"""The controls of one overlay: sliders, switches and choices, made from the schema of its options."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nicegui import events, run, ui
from starlette.exceptions import HTTPException

import overlays
from overlays._registry import why_broken
from scrfd_trt._studio.session import Layer, Session
from scrfd_trt._studio.uploads import IMAGE_SUFFIXES, MAX_STICKER_BYTES
from scrfd_trt.errors import ScrfdError

Kind = Literal["slider", "number", "switch", "choice", "file", "text"]
KINDS: dict[str, Kind] = {"true or false": "switch", "path": "file"}
"""By an option's type; other types than these and numbers are text."""

CHANNEL_ORDERS = {"bgr", "rgb"}  # choices of the option that the page hides: all its images are BGR


@dataclass(frozen=True)
class Field:
    """The control of one option."""

    name: str
    kind: Kind
    default: Any  # None if the option has no default
    description: str
    low: float | None = None
    high: float | None = None
    step: float = 1.0
    choices: tuple[str, ...] = ()


def fields(name: str) -> list[Field]:
    """Return the controls of an overlay, in the order of its options; raise ScrfdError if it cannot be loaded."""
    return [_field(option) for option in overlays.describe(name) if set(option.choices) != CHANNEL_ORDERS]


def _field(option: overlays.OptionHelp) -> Field:
    if option.choices:
        return Field(option.name, "choice", option.default, option.description, choices=option.choices)
    if option.type in ("number", "integer"):
        return _numeric_field(option)
    return Field(option.name, KINDS.get(option.type, "text"), option.default, option.description)


def _numeric_field(option: overlays.OptionHelp) -> Field:
    ge, gt, le, lt = option.limits
    high = lt if le is None else le
    step = 1.0 if option.type == "integer" else 0.01 if high is not None and high <= 2 else 0.05
    low = gt + step if ge is None and gt is not None else ge
    bounded = low is not None and high is not None and option.default is not None
    return Field(option.name, "slider" if bounded else "number", option.default, option.description, low, high, step)


class Upload(ui.upload):
    """An upload of one file; the server answers forms with none or several with 400."""

    async def handle_uploads(self, files: list[Any]) -> None:
        """Handle the file of a form."""
        if len(files) != 1:
            raise HTTPException(400, "the request is not a form with a file")
        await super().handle_uploads(files)


class Controls:
    """The controls of one overlay, which set the options of ``layer``; ``on_error`` takes the reason of a refusal."""

    def __init__(
        self, layer: Layer, session: Session, on_change: Callable[[], None], on_error: Callable[[str], None]
    ) -> None:
        self._layer, self._session, self._on_change, self._on_error = layer, session, on_change, on_error
        for field in fields(layer.name):
            with ui.row().classes("w-full items-center no-wrap gap-2"):
                ui.label(field.name).classes("w-24 shrink-0 text-sm").tooltip(field.description)
                if field.kind == "file":
                    self._build_file(field)
                else:
                    self._build(field, layer.options.get(field.name, field.default))

    def _with(self, field: Field, value: Any) -> dict[str, Any]:
        """Return the options with one of them changed."""
        options = {key: kept for key, kept in self._layer.options.items() if key != field.name}
        return options if value in (field.default, None, "") else options | {field.name: value}

    def _set(self, field: Field, value: Any) -> str | None:
        """Set an option; return the reason if its value is refused."""
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            value = int(value) if field.step == 1.0 else round(value, 4)
        try:
            self._layer.set_options(self._with(field, value))
        except ScrfdError as error:
            return str(error)
        self._on_change()
        return None

    def _build(self, field: Field, value: Any) -> None:
        def validate(value: Any) -> str | None:
            return self._set(field, value)  # refused text stays in the field and is marked

        def on_change(event: events.ValueChangeEventArguments[Any]) -> None:
            if reason := self._set(field, event.value):
                self._on_error(reason)
                event.sender.set_value(self._layer.options.get(field.name, field.default))  # type: ignore[attr-defined]

        label = f'aria-label="{field.name}"'
        if field.kind == "slider":
            low, high = field.low or 0.0, field.high or 1.0
            slider = ui.slider(min=low, max=high, step=field.step, value=value, on_change=on_change)
            slider.props(f"label {label}").classes("grow")
            show_value(slider)
        elif field.kind == "switch":
            ui.switch(value=bool(value), on_change=on_change).props(label)
        elif field.kind == "choice":
            choice = ui.select(list(field.choices), value=value, on_change=on_change)
            choice.props(f"dense outlined {label}").classes("grow")
        elif field.kind == "number":
            number = ui.number(value=value, min=field.low, max=field.high, step=field.step, validation=validate)
            number.props(f"dense outlined clearable debounce=400 {label}").classes("grow")
        else:
            text = ui.input(value=str(value or ""), validation=validate)
            text.props(f"dense outlined debounce=600 {label}").classes("grow")

    def _build_file(self, field: Field) -> None:
        """Build the upload of an image, its name, and the button that removes it."""
        layer, session = self._layer, self._session

        def show() -> None:
            path = layer.options.get(field.name)
            name.set_text(path.name if isinstance(path, Path) else "")
            for element in (name, remove):
                element.set_visibility(bool(name.text))

        def replace(options: dict[str, Any]) -> None:
            before = layer.options.get(field.name)
            layer.set_options(options)
            if isinstance(before, Path):
                session.delete_sticker(before)
            show()
            self._on_change()

        async def uploaded(event: events.UploadEventArguments) -> None:
            upload.reset()
            try:
                path = await run.io_bound(session.store_sticker, event.file.name, await event.file.read())
                if path is None:  # the server stops
                    return
            except ScrfdError as error:
                self._on_error(str(error))
                return
            try:
                # Decoded on another thread; the overlays cache the image as long as this layer exists.
                ready = Layer(layer.name)
                await run.io_bound(ready.set_options, self._with(field, path))
                replace(self._with(field, path))
            except ScrfdError as error:
                session.delete_sticker(path)
                self._on_error(str(error))

        with ui.column().classes("grow min-w-0 gap-1"):
            with ui.row().classes("items-center no-wrap w-full gap-1"):
                name = ui.label().classes("text-sm min-w-0")
                remove = ui.button(icon="close", on_click=lambda: replace(self._with(field, None)))
                remove.props(f'flat round dense size=sm aria-label="Remove {field.name}"')
            upload = Upload(
                label="PNG with alpha",
                auto_upload=True,
                max_file_size=MAX_STICKER_BYTES,
                max_files=1,
                on_upload=uploaded,
            )
            upload.props(f'flat bordered dense accept="{",".join(IMAGE_SUFFIXES)}"').classes("w-full max-w-full")
        show()


def number(value: Any) -> float:
    """Return a slider's value; 0 for what no slider sends."""
    is_number = isinstance(value, (int, float)) and math.isfinite(value)
    return float(value) if is_number else 0.0


def show_value(slider: ui.slider) -> None:
    """Show a slider's value beside it."""
    label = ui.label().bind_text_from(slider, "value", lambda now: f"{number(now):g}")
    label.classes("w-10 text-right text-sm whitespace-nowrap shrink-0")


def available_overlays() -> tuple[list[str], dict[str, str]]:
    """Return the names of overlays that can be loaded, and the reason for each of the others."""
    reasons = {name: _why_unavailable(name) for name in overlays.names()}
    return [name for name in reasons if not reasons[name]], {name: why for name, why in reasons.items() if why}


def _why_unavailable(name: str) -> str:
    try:
        fields(name)
        overlays.summary(name)
    except ScrfdError as error:
        return why_broken(error)
    return ""
