"""CUDA through cuda.core, whose objects free what they own; NVIDIA's packages are imported at first use."""
