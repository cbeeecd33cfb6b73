"""ONNX graphs: load, rewrite for TensorRT, cast to FP16, verify."""
