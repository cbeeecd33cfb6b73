"""TensorRT engines: build, cache, inspect and open them."""
