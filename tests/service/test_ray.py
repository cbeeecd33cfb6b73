"""The application of Ray Serve; no cluster is started."""

from __future__ import annotations

import pytest

from scrfd_trt.errors import OptionError
from scrfd_trt.service.ray import app

pytest.importorskip("ray", minversion="2.60")  # older ones take no function as an application
serve = pytest.importorskip("ray.serve")


def test_application_has_the_limits_and_scaling_of_its_arguments() -> None:
    built = app({"device": "cuda:0", "max_queue": 40, "timeout": 7, "max_replicas": 3, "detector": {"threshold": 0.4}})
    assert isinstance(built, serve.Application)
    deployment = built._bound_deployment
    config = deployment._deployment_config
    assert (config.max_ongoing_requests, config.graceful_shutdown_timeout_s) == (40, 7)
    assert (config.autoscaling_config.min_replicas, config.autoscaling_config.max_replicas) == (1, 3)
    assert deployment.ray_actor_options["num_gpus"] == 1
    assert app({})._bound_deployment.ray_actor_options["num_gpus"] == 0


def test_wrong_arguments_are_reported_before_replicas_start() -> None:
    for wrong in ({"max_queue": 0}, {"nothing": 1}, {"device": "tpu"}):
        with pytest.raises(OptionError):
            app(wrong)
