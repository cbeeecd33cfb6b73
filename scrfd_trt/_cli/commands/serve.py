"""``scrfd-trt serve``: the web service."""

from __future__ import annotations

import ipaddress
from contextlib import ExitStack, suppress
from typing import Annotated

from scrfd_trt._cli import console, options, signals
from scrfd_trt._cli.commands.studio import Port, listen
from scrfd_trt._cli.detector import detector_opener
from scrfd_trt._cli.option_table import option
from scrfd_trt._image_files.frames import MILLION
from scrfd_trt._web.access import Access
from scrfd_trt.errors import DeviceError, MissingDependencyError, one_line
from scrfd_trt.service import INSTALL, KEYS, ServiceOptions

DEFAULT = {name: field.default for name, field in ServiceOptions.model_fields.items()}
HOST_HELP = "Address to listen on; 0.0.0.0 accepts other machines."
QUEUE_HELP = "Images in work; further requests are answered with 429."
FETCH_HELP = "Host that requests may name in addresses, such as *.example.com."
Host = Annotated[str, option("ADDRESS", HOST_HELP)]
MaxUpload = Annotated[int, option("MIB", "Maximum size of a request, in MiB.", min=1, max=2000)]
MaxQueue = Annotated[int, option("N", QUEUE_HELP, min=1, max=1_000_000)]
MaxImages = Annotated[int, option("N", "Maximum images in a request.", min=1, max=10_000)]
Timeout = Annotated[float, option("SECONDS", "Maximum time of a request.", min=0.1, max=3600)]
PROCESSES_HELP = "Processes that receive and decode; 1: the detector's own."
PROCESSES_DEFAULT = "half the cores with a GPU; 1 on the CPU"
Processes = Annotated[int | None, option("N", PROCESSES_HELP, min=1, max=32, show_default=PROCESSES_DEFAULT)]
FetchFrom = Annotated[list[str] | None, option("HOST", FETCH_HELP, show_default="none")]


def serve(
    *,
    model: options.ModelArgs,
    detection: options.DetectArgs,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    max_upload: MaxUpload = DEFAULT["max_bytes"] >> 20,
    max_pixels: float = DEFAULT["max_pixels"] / MILLION,
    max_images: MaxImages = DEFAULT["max_images"],
    max_queue: MaxQueue = DEFAULT["max_queue"],
    timeout: Timeout = DEFAULT["timeout"],
    fetch_from: FetchFrom = None,
    processes: Processes = None,
    messages: options.MessageArgs,
) -> None:
    """Run a web service that detects faces.

    Requests share batches of one detector. Each request is one JSON line on
    standard error; --quiet prints errors only. By default, only this machine
    can send requests; see --host. If the variable SCRFD_TRT_API_KEYS has
    keys, separated by commas, each request requires one. Ctrl-C and SIGTERM
    stop the service after the requests in work.

    For example:
      scrfd-trt serve
      scrfd-trt serve --host 0.0.0.0 --device cuda --max-queue 2000
    """
    with console.logged(**vars(messages)):
        try:
            from scrfd_trt.service._app import serve  # noqa: PLC0415 - FastAPI is optional, and slow to import
            from scrfd_trt.service._processes import can_share, shared_out, usual_processes  # noqa: PLC0415
        except ImportError as error:
            raise MissingDependencyError(f"serve needs FastAPI ({one_line(error)}): {INSTALL}") from error
        limits = ServiceOptions(
            max_bytes=max_upload << 20,
            max_pixels=round(max_pixels * MILLION),
            max_images=max_images,
            max_queue=max_queue,
            timeout=timeout,
            fetch_from=tuple(fetch_from or ()),
        )
        if (processes or 1) > 1 and not can_share():
            raise DeviceError("--processes above 1 requires Linux")
        open_detector = detector_opener(model, detection)
        with ExitStack() as stack:
            listeners = [stack.enter_context(listener) for listener in listen(host, port)]
            names = [listener.getsockname() for listener in listeners]
            is_local = all(ipaddress.ip_address(name[0].partition("%")[0]).is_loopback for name in names)
            if not (is_local or limits.api_keys):
                console.warning(f"other machines can use the service without a key; set {KEYS} to require one")
            access = (
                Access(host, [name[0] for name in names], names[0][1]) if is_local and not limits.api_keys else None
            )
            detector = stack.enter_context(open_detector()).warmup()
            count = processes or usual_processes(detector.device)
            shared = shared_out(listeners, count) if count > 1 else [listeners]
            address = f"http://{f'[{host}]' if ':' in host else host}:{names[0][1]}"
            console.plain(f"service: {address}  (Ctrl-C stops it; {address}/docs has examples)")
            with suppress(KeyboardInterrupt):
                serve(
                    detector,
                    shared,
                    limits,
                    model=model.model,
                    access=access,
                    log_requests=not messages.quiet,
                )
            signals.forget()
