"""TensorRT engines: the ONNX graph made ready, built, inspected and run."""
