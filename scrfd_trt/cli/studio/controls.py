"""The controls of one overlay: sliders, switches and choices, as its options' schema gives them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from nicegui import events, ui

from scrfd_trt.cli.studio.fields import Field, fields
from scrfd_trt.cli.studio.media import LARGEST_STICKER, PICTURES
from scrfd_trt.cli.studio.session import Layer
from scrfd_trt.errors import ImageError, ScrfdError

Keep = Callable[[str, bytes], Path]


def controls(layer: Layer, keep: Keep, changed: Callable[[], None], tell: Callable[[str], None]) -> None:
    """Build a control for each option.

    Parameters
    ----------
    layer
        Whose options are set; those that are as by default are left out.
    keep
        Stores an uploaded file and returns where.
    changed
        Called after each change that the overlay takes.
    tell
        Called with what is wrong with a change, which is then undone.
    """

    def set_option(field: Field, value: Any) -> None:
        before = dict(layer.options)
        layer.options.pop(field.name, None)
        if value not in (field.default, None, ""):
            layer.options[field.name] = value
        try:
            layer.make()
        except ScrfdError as error:
            layer.options.clear()
            layer.options.update(before)
            tell(str(error))
            return
        changed()

    for field in fields(layer.name):
        with ui.row().classes("w-full items-center no-wrap gap-2"):
            ui.label(field.name).classes("w-24 shrink-0 text-sm").tooltip(field.description)
            _control(field, layer.options.get(field.name, field.default), keep, set_option)


def _control(field: Field, value: Any, keep: Keep, set_option: Callable[[Field, Any], None]) -> None:
    def on_change(event: events.ValueChangeEventArguments[Any]) -> None:
        number = isinstance(event.value, (int, float)) and not isinstance(event.value, bool)
        whole = number and field.step == 1.0
        set_option(field, int(event.value) if whole else round(event.value, 4) if number else event.value)

    named = f'aria-label="{field.name}"'
    if field.kind == "slider":
        slider = ui.slider(
            min=field.low or 0.0, max=field.high or 1.0, step=field.step, value=value, on_change=on_change
        )
        slider.props(f"label {named}").classes("grow")
        ui.label().bind_text_from(slider, "value", lambda now: f"{now:g}").classes("w-10 text-right text-sm")
    elif field.kind == "switch":
        ui.switch(value=bool(value), on_change=on_change).props(named)
    elif field.kind == "choice":
        ui.select(list(field.choices), value=value, on_change=on_change).props(f"dense outlined {named}").classes(
            "grow"
        )
    elif field.kind == "number":
        number = ui.number(value=value, min=field.low, max=field.high, step=field.step, on_change=on_change)
        number.props(f"dense outlined clearable debounce=400 {named}").classes("grow")
    elif field.kind == "file":
        _file(field, keep, set_option)
    else:
        text = ui.input(value=str(value or ""), on_change=on_change)
        text.props(f"dense outlined debounce=600 {named}").classes("grow")


def _file(field: Field, keep: Keep, set_option: Callable[[Field, Any], None]) -> None:
    async def uploaded(event: events.UploadEventArguments) -> None:
        content = await event.file.read()
        try:
            path = keep(event.file.name, content)
        except ImageError as error:
            ui.notify(str(error), type="negative")
            return
        set_option(field, path)

    ui.upload(
        label="PNG with alpha", auto_upload=True, max_file_size=LARGEST_STICKER, max_files=1, on_upload=uploaded
    ).props(f'flat bordered dense accept="{",".join(PICTURES)}"').classes("grow max-w-full")
