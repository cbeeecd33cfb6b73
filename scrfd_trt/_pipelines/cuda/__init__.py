"""From images to detections on an NVIDIA GPU: all steps of a run are one CUDA graph.

| module | |
|---|---|
| `pipeline` | the pipeline: prepares images, starts and awaits runs |
| `pool` | the slots, which runs take turns to use |
| `slot` | memory, stream and programs for one run at a time |
| `program` | the work of a run for one batch size: kernels and inference, captured as a CUDA graph |
| `memory` | the buffers of a slot, the parameters of the kernels, uploads of images |
| `frames` | how images lie in memory |
| `resources` | what the slots share |
| `device_detections` | detections that stay on the GPU |
| `timing` | measures the steps of a run |
"""

from scrfd_trt._pipelines.cuda.device_detections import DeviceDetections
from scrfd_trt._pipelines.cuda.pipeline import CudaPipeline

__all__ = ["CudaPipeline", "DeviceDetections"]
