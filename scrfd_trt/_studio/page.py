"""The page: an image with its overlays, and beside it their options and the code that makes the result."""

from __future__ import annotations

import base64
from contextlib import suppress
from typing import Any

import cv2
from nicegui import background_tasks, events, run, ui

import overlays
from scrfd_trt._formats import count_faces
from scrfd_trt._studio.controls import Controls, Upload, available_overlays, number, show_value
from scrfd_trt._studio.session import Session
from scrfd_trt._studio.snippets import wrap_command
from scrfd_trt._studio.uploads import CLIP_SUFFIXES, IMAGE_SUFFIXES, Image, shrink
from scrfd_trt.errors import ClosedError, ScrfdError

STYLE = """
body { overflow-wrap: anywhere; }
html { scroll-padding-top: calc(3.7rem + 30vh) !important; }
.studio-picture { width: 100%; position: sticky; top: 3.6rem; z-index: 10; padding: 0.25rem 0; background: #fff; }
.body--dark .studio-picture { background: #121212; }
.studio-picture img { display: block; max-width: 100%; max-height: 30vh; margin: 0 auto; object-fit: contain; }
/* On a phone, the image stays above everything that follows it, not only above its own column. */
.studio-left { display: contents; }
@media (min-width: 1024px) {
  html { scroll-padding-top: 4rem !important; }
  .studio-left { display: flex; position: sticky; top: 4.5rem; }
  .studio-picture { position: static; }
  .studio-picture img { max-height: 70vh; }
}
.studio-warning { color: #8a3b00; }
.body--dark .studio-warning { color: #ffb74d; }
.nicegui-code-copy { opacity: 1; }
"""

MIN_SCORE, MAX_SCORE = 0.05, 0.95  # range of the threshold
PREVIEW_SIDE = 1280  # longest side in pixels of the image shown; the download has the full size
REJECTED = "files => emit(files.map(file => file.failedPropValidation))"
"""Sends why the browser does not upload files: ``accept`` or ``max-file-size``."""


class Page:
    """One open page and its session."""

    def __init__(self, session: Session, max_upload: int) -> None:
        self.session = session
        self.max_upload = max_upload
        self.frame = 0
        self._redraw_requested = self._drawing = self._opening = False
        self._progress = ""
        ui.context.client.on_delete(self.session.close)
        self._build()
        self.redraw()

    def _build(self) -> None:
        ui.colors(primary="#00796b")
        ui.add_css(STYLE)
        with ui.header().classes("items-center justify-between py-2"):
            ui.label("scrfd-trt studio").classes("text-lg font-medium")
            self.dark = ui.dark_mode(None)
            ui.button(icon="dark_mode", on_click=self._toggle_dark).props(
                "flat round color=white aria-label='Light or dark'"
            )
        with ui.row().classes("w-full max-w-screen-2xl mx-auto gap-4 items-start"):
            with ui.column().classes("studio-left w-full lg:w-[62%] gap-2"):
                self._build_image()
            with ui.column().classes("w-full lg:w-[35%] gap-2"):
                self._build_overlays()
                self.command_heading = ui.label("Command line").classes("text-sm font-medium")
                self.command = _code("bash", "Copy the command line")
                ui.label("Python").classes("text-sm font-medium")
                self.python = _code("python", "Copy the Python")

    async def _toggle_dark(self) -> None:
        # Until the first click, only the browser knows which mode is active.
        with suppress(TimeoutError):  # the page is being closed
            self.dark.set_value(not await ui.run_javascript("Quasar.Dark.isActive"))

    def _build_image(self) -> None:
        with ui.element().classes("studio-picture"):
            self.image = ui.element("img").props('alt="The result"').classes("rounded")
        self.status = ui.label().classes("w-full text-sm opacity-80").props("role=status")
        self.warning = ui.label().classes("studio-warning w-full text-sm").props("role=alert")
        self.timeline = (
            ui.slider(min=0, max=1, value=0, on_change=self._seek).props("aria-label=Frame").classes("w-full")
        )
        self.timeline.set_visibility(False)
        mib = self.max_upload // 2**20
        self.upload = (
            Upload(
                label=f"Drop an image or a short clip (up to {mib} MiB)",
                auto_upload=True,
                max_file_size=self.max_upload,
                on_upload=self._uploaded,
            )
            .on("rejected", self._rejected, js_handler=REJECTED)
            .classes("w-full")
            .props(f'flat bordered accept="{",".join(IMAGE_SUFFIXES + CLIP_SUFFIXES)}"')
        )
        with ui.row().classes("w-full items-center"):
            self.button = ui.button("Download", icon="download", on_click=self._download).props("unelevated")
            progress = ui.label().classes("text-sm").props("aria-live=polite")
            progress.bind_text_from(self, "_progress")

    def _build_overlays(self) -> None:
        names, broken = available_overlays()
        self._overlays = frozenset(names)
        chosen = [layer.name for layer in self.session.layers if layer.name in names]
        ui.select(names, value=chosen, multiple=True, label="Overlays", on_change=self._choose).classes("w-full").props(
            "use-chips outlined"
        )
        for name, reason in broken.items():
            ui.label(f"{name} {reason}").classes("studio-warning w-full text-sm")
        self.layers = ui.column().classes("w-full gap-1")
        self._build_layers()
        with ui.row().classes("w-full items-center no-wrap"):
            ui.label("threshold").classes("w-24 text-sm").tooltip("Minimum score of a face, 0 to 1.")
            self.threshold = ui.slider(
                min=MIN_SCORE, max=MAX_SCORE, step=0.01, value=self.session.threshold, on_change=self._set_threshold
            )
            self.threshold.props("label aria-label=threshold").classes("grow")
            show_value(self.threshold)

    def _build_layers(self) -> None:
        self.layers.clear()
        with self.layers:
            for layer in self.session.layers:
                with ui.expansion(layer.name, value=len(self.session.layers) == 1).classes(
                    "w-full border border-gray-400/50 rounded"
                ):
                    try:
                        ui.label(overlays.summary(layer.name)).classes("text-sm opacity-80")
                        Controls(layer, self.session, self.redraw, self._notify)
                    except ScrfdError as error:  # uninstalled since the page was opened
                        ui.label(str(error)).classes("studio-warning text-sm")

    def redraw(self) -> None:
        """Draw again, as soon as the drawing in progress has ended."""
        self._redraw_requested = True
        if not self._drawing:
            self._drawing = True
            background_tasks.create(self._draw(), name="draw")

    async def _draw(self) -> None:
        try:
            while self._redraw_requested:
                self._redraw_requested = False
                try:
                    rendered = await run.io_bound(self._render)
                except ScrfdError as error:
                    self.status.set_text(str(error))
                    continue
                if rendered is None:  # the server stops
                    return
                self._show(*rendered)
        finally:
            self._drawing = False

    def _render(self) -> tuple[str, str, list[str]]:
        """Return the URL of the result, its status line and its warnings; runs on a worker thread."""
        image, count = self.session.draw(self.frame)
        media = self.session.media
        status = f"{media.name}: {count_faces(count)} in {image.shape[1]}×{image.shape[0]}"
        if media.is_clip:
            rest = ", later frames are not shown" if media.truncated else ""
            status += f", frame {self.frame + 1} of {len(media.frames)}{rest}"
        elif media.truncated:
            status += ", the first image of the file; the command line draws on all"
        return _as_url(image), status, self.session.warnings()

    def _show(self, url: str, status: str, warnings: list[str]) -> None:
        self.image.props["src"] = url
        self.status.set_text(status)
        self.warning.set_text(" ".join(f"Warning: {reason}." for reason in warnings))
        self.warning.set_visibility(bool(warnings))
        command = self.session.command()
        self.command.set_content(wrap_command(command))
        for element in (self.command_heading, self.command):
            element.set_visibility(bool(command))
        self.python.set_content(self.session.python())

    async def _uploaded(self, event: events.UploadEventArguments) -> None:
        self.upload.reset()
        if self._opening:
            self._notify("Another file is being opened: wait for it.")
            return
        self._opening = True
        try:
            await run.io_bound(self.session.open, event.file.name, await event.file.read())
        except ScrfdError as error:
            self._notify(str(error))
            return
        finally:
            self._opening = False
        self.frame = 0
        last = len(self.session.media.frames) - 1
        self.timeline.set_visibility(last > 0)
        self.timeline.props(f"max={max(last, 1)}").set_value(0)
        self.redraw()

    def _rejected(self, event: events.GenericEventArguments) -> None:
        is_large = "max-file-size" in str(event.args)
        size = f"is larger than {self.max_upload // 2**20} MiB"
        self._notify(f"The file {size if is_large else 'is not an image or a clip that the studio opens'}.")

    def _seek(self, event: events.ValueChangeEventArguments[Any]) -> None:
        self.frame = int(min(max(number(event.value), 0), len(self.session.media.frames) - 1))
        self.redraw()

    def _choose(self, event: events.ValueChangeEventArguments[Any]) -> None:
        self.session.select([name for name in event.value or [] if name in self._overlays])
        self._build_layers()
        self.threshold.set_value(self.session.threshold)
        self.redraw()

    def _set_threshold(self, event: events.ValueChangeEventArguments[Any]) -> None:
        threshold = min(max(number(event.value), MIN_SCORE), MAX_SCORE)
        if threshold != self.session.threshold:  # else _choose() moved the slider
            self.session.threshold = threshold
            self.redraw()

    async def _download(self) -> None:
        self.button.disable()
        try:
            file = await run.io_bound(self.session.download, self._set_progress)
            if file is not None:  # otherwise the server stops
                ui.download.from_url(f"/download/{self.session.offer(*file)}", file[0])
        except ClosedError:  # nobody sees a message
            return
        except ScrfdError as error:
            self._notify(str(error))
            return
        finally:
            self._set_progress("")
            self.button.enable()

    def _set_progress(self, text: str) -> None:
        self._progress = text

    def _notify(self, text: str) -> None:
        # The close button that notify() adds by default has too little contrast on red.
        close = [{"label": "Close", "color": "white"}]
        ui.notify(text, type="negative", multi_line=True, timeout=8000, actions=close)


def _code(language: str, copy: str) -> ui.code:
    code = ui.code(language=language).classes("w-full text-xs [&_pre]:whitespace-pre-wrap")
    # In the colour of the text: the default colour of buttons has too little contrast in dark mode.
    code.copy_button.props(f'aria-label="{copy}"', remove="color")
    return code


def _as_url(image: Image) -> str:
    data = cv2.imencode(".jpg", shrink(image, PREVIEW_SIDE), [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
