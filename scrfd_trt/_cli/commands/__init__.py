"""The commands of ``scrfd-trt``, one module a command."""
