"""The controls of one overlay: sliders, switches and choices, as its options' schema gives them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nicegui import events, run, ui

import overlays
from overlays._registry import why_broken
from scrfd_trt._studio.media import LARGEST_STICKER, PICTURES
from scrfd_trt._studio.session import Layer, Session
from scrfd_trt.errors import ScrfdError

Kind = Literal["slider", "number", "switch", "choice", "file", "text"]

ORDER = {"bgr", "rgb"}
"""Choices of the option that tells the order of channels: the page's pictures have but one."""


@dataclass(frozen=True)
class Field:
    """A control of the page.

    Attributes
    ----------
    name
        The option's.
    kind
        What it looks like.
    default
        Where it begins; None where the option has no default.
    low, high, step
        Of sliders and numbers, None where there is no bound.
    choices
        Of choices.
    description
        One sentence.
    """

    name: str
    kind: Kind
    default: Any
    description: str
    low: float | None = None
    high: float | None = None
    step: float = 1.0
    choices: tuple[str, ...] = ()


def fields(name: str) -> list[Field]:
    """Return the controls of an overlay, in the order of its options."""
    return [_field(option) for option in overlays.describe(name) if set(option.choices) != ORDER]


def _field(option: overlays.OptionHelp) -> Field:
    if option.choices:
        return Field(option.name, "choice", option.default, option.description, choices=option.choices)
    if option.type in ("number", "integer"):
        return _numeric(option)
    kind: Kind = {"true or false": "switch", "path": "file"}.get(option.type, "text")  # type: ignore[assignment]
    return Field(option.name, kind, option.default, option.description)


def _numeric(option: overlays.OptionHelp) -> Field:
    ge, gt, le, lt = option.limits
    high = lt if le is None else le
    step = 1.0 if option.type == "integer" else 0.01 if high is not None and high <= 2 else 0.05
    low = gt + step if ge is None and gt is not None else ge
    bounded = low is not None and high is not None and option.default is not None
    return Field(option.name, "slider" if bounded else "number", option.default, option.description, low, high, step)


class Controls:
    """The controls of one overlay, one for each option; those that are as by default are left out of the options.

    Parameters
    ----------
    layer
        Whose options are set.
    session
        Keeps uploaded files.
    changed
        Called after each change that the overlay takes.
    tell
        Called with what is wrong with a change, which is then undone.

    Raises
    ------
    ScrfdError
        If the overlay cannot be loaded.
    """

    def __init__(
        self, layer: Layer, session: Session, changed: Callable[[], None], tell: Callable[[str], None]
    ) -> None:
        self._layer, self._session, self._changed, self._tell = layer, session, changed, tell
        for field in fields(layer.name):
            with ui.row().classes("w-full items-center no-wrap gap-2"):
                ui.label(field.name).classes("w-24 shrink-0 text-sm").tooltip(field.description)
                self._build(field, layer.options.get(field.name, field.default))

    def _with(self, field: Field, value: Any) -> dict[str, Any]:
        """Return the options with one of them changed."""
        options = {key: kept for key, kept in self._layer.options.items() if key != field.name}
        return options if value in (field.default, None, "") else options | {field.name: value}

    def _take(self, field: Field, value: Any) -> str | None:
        """Set an option; return why its value is refused, None where it is not."""
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        told = int(value) if number and field.step == 1.0 else round(value, 4) if number else value
        try:
            self._layer.take(self._with(field, told))
        except ScrfdError as error:
            return str(error)
        self._changed()
        return None

    def _build(self, field: Field, value: Any) -> None:
        if field.kind == "file":
            self._file(field)
            return

        def typed(value: Any) -> str | None:
            return self._take(field, value)  # what is refused, half typed say, stays and is marked

        def on_change(event: events.ValueChangeEventArguments[Any]) -> None:
            if wrong := self._take(field, event.value):
                self._tell(wrong)
                event.sender.set_value(self._layer.options.get(field.name, field.default))  # type: ignore[attr-defined]

        named = f'aria-label="{field.name}"'
        if field.kind == "slider":
            slider = ui.slider(
                min=field.low or 0.0, max=field.high or 1.0, step=field.step, value=value, on_change=on_change
            )
            slider.props(f"label {named}").classes("grow")
            amount(slider)
        elif field.kind == "switch":
            ui.switch(value=bool(value), on_change=on_change).props(named)
        elif field.kind == "choice":
            choice = ui.select(list(field.choices), value=value, on_change=on_change)
            choice.props(f"dense outlined {named}").classes("grow")
        elif field.kind == "number":
            number = ui.number(value=value, min=field.low, max=field.high, step=field.step, validation=typed)
            number.props(f"dense outlined clearable debounce=400 {named}").classes("grow")
        else:
            text = ui.input(value=str(value or ""), validation=typed)
            text.props(f"dense outlined debounce=600 {named}").classes("grow")

    def _file(self, field: Field) -> None:
        """Build what uploads a picture, shows its name, and takes it away again."""
        layer, session = self._layer, self._session

        def show() -> None:
            path = layer.options.get(field.name)
            shown.set_text(path.name if isinstance(path, Path) else "")
            for element in (shown, remove):
                element.set_visibility(bool(shown.text))

        def replace(options: dict[str, Any]) -> None:
            before = layer.options.get(field.name)
            layer.take(options)
            if isinstance(before, Path):
                session.drop(before)
            show()
            self._changed()

        async def uploaded(event: events.UploadEventArguments) -> None:
            upload.reset()
            try:
                path = await run.io_bound(session.keep, event.file.name, await event.file.read())
                if path is None:  # the server ends
                    return
                # Read on another thread; as long as this holds it, it is not read again.
                ready = Layer(layer.name)
                await run.io_bound(ready.take, self._with(field, path))
                replace(self._with(field, path))
            except ScrfdError as error:
                self._tell(str(error))

        with ui.column().classes("grow min-w-0 gap-1"):
            with ui.row().classes("items-center no-wrap w-full gap-1"):
                shown = ui.label().classes("text-sm min-w-0")
                remove = ui.button(icon="close", on_click=lambda: replace(self._with(field, None)))
                remove.props(f'flat round dense size=sm aria-label="Take {field.name} away"')
            upload = ui.upload(
                label="PNG with alpha", auto_upload=True, max_file_size=LARGEST_STICKER, max_files=1, on_upload=uploaded
            )
            upload.props(f'flat bordered dense accept="{",".join(PICTURES)}"').classes("w-full max-w-full")
        show()


def amount(slider: ui.slider) -> None:
    """Write a slider's value beside it."""
    shown = ui.label().bind_text_from(slider, "value", lambda now: f"{now:g}")
    shown.classes("w-10 text-right text-sm whitespace-nowrap shrink-0")


def loadable() -> tuple[list[str], dict[str, str]]:
    """Return the names of overlays that can be picked, and why the others cannot."""
    why = {name: _why_broken(name) for name in overlays.names()}
    return [name for name in why if not why[name]], {name: reason for name, reason in why.items() if reason}


def _why_broken(name: str) -> str:
    try:
        fields(name)
        overlays.summary(name)
    except ScrfdError as error:
        return why_broken(error)
    return ""
