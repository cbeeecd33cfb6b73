"""ONNX models: load, rewrite, cast to FP16, quantize to INT8 and verify them."""
