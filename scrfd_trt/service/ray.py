"""The service under Ray Serve: ``serve run scrfd_trt.service.ray:app``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scrfd_trt import _devices, models
from scrfd_trt._detector import SCRFDDetector
from scrfd_trt.errors import MissingDependencyError, one_line
from scrfd_trt.service import ServiceOptions, create_app

__all__ = ["app"]


def app(arguments: dict[str, Any]) -> Any:
    """Return the service as an application of Ray Serve.

    Each replica has a detector, and shares its batches among its requests. It has one GPU, if the device is one.

    Parameters
    ----------
    arguments
        ``model``, ``device`` and further keywords of :class:`~scrfd_trt.SCRFDDetector` in ``detector``;
        ``min_replicas``, ``max_replicas`` and ``target_ongoing_requests`` of Serve's autoscaling; and the fields of
        :class:`ServiceOptions`. API keys are read from the environment of the replicas.

    Returns
    -------
    ray.serve.Application
        For ``serve run``, ``serve deploy`` and ``serve.run()``.

    Raises
    ------
    OptionError
        If an argument is unknown or out of range.
    MissingDependencyError
        If Ray Serve is not installed.
    """
    try:
        from ray import serve  # noqa: PLC0415 - optional
    except ImportError as error:
        what = f'the application needs Ray Serve ({one_line(error)}): pip install "ray[serve]"'
        raise MissingDependencyError(what) from error
    given = dict(arguments)
    model, device = given.pop("model", models.DEFAULT_MODEL), given.pop("device", "auto")
    keywords = given.pop("detector", {})
    scaling = {"min_replicas": 1, "max_replicas": 8, "target_ongoing_requests": 16}
    scaling = {name: given.pop(name, value) for name, value in scaling.items()}
    options = ServiceOptions(**given)  # invalid ones are reported here, and not by the replicas
    is_on_gpu = _devices.parse(device)[0] in {"cuda", "all"}

    def build() -> Callable[..., Any]:
        detector = SCRFDDetector(model, device=device, **keywords)
        return create_app(detector, ServiceOptions(**given), model=model, close_detector=True)

    deployment: Any = serve.deployment(
        serve.ingress(build)(),
        name="scrfd-trt",
        autoscaling_config=scaling,
        max_ongoing_requests=options.max_queue,
        graceful_shutdown_timeout_s=options.timeout,
        ray_actor_options={"num_gpus": 1 if is_on_gpu else 0},
    )
    return deployment.bind()
