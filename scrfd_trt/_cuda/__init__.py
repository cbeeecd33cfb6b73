"""CUDA through cuda.core: GPUs, streams, memory, graphs and kernels.

cuda.core owns what is made here and frees it when it is closed or dropped. Streams of other libraries are borrowed and
never destroyed. NVIDIA's packages are imported when a GPU is first used.
"""
