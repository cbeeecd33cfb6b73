"""ONNX models: load, rewrite, cast to FP16 and verify them."""
