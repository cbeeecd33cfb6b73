"""What type checkers accept and refuse: an ignored error that is none fails, too. Checked by mypy, and never run."""

from pathlib import Path

from scrfd_trt import Detections, SCRFDDetector

detector: SCRFDDetector = SCRFDDetector("2.5g_bnkps", device="cpu", threshold=0.4, scales=[128, (640, 384)]).warmup()
SCRFDDetector(device=0, iou=0.5, min_face=16, rotations=(90, 270), max_faces=3, color="rgb", max_batch=4)
with SCRFDDetector.from_onnx(Path("face.onnx"), scales=640, rotations=90) as opened:
    found: Detections = opened.detect("photo.jpg", threshold=0.3)
several: list[Detections] = [*opened.detect_batch(Path("photos")), *opened.stream(Path("photos"))]
SCRFDDetector.from_engine("face.plan", allow_host_code=True, min_face=None)

SCRFDDetector(conf=0.5)  # type: ignore[call-arg]
SCRFDDetector(threshold="high")  # type: ignore[arg-type]
SCRFDDetector(color="gbr")  # type: ignore[arg-type]
SCRFDDetector(iou=None)  # type: ignore[arg-type]
SCRFDDetector(max_batch=0.5)  # type: ignore[arg-type]
SCRFDDetector.from_pretrained(max_faces=0.5)  # type: ignore[arg-type]
SCRFDDetector.from_onnx("face.onnx", scales="640")  # type: ignore[arg-type]
SCRFDDetector.from_onnx("face.onnx", rotations="all", min_face="16")  # type: ignore[arg-type]
SCRFDDetector.from_engine("face.plan", build=None)  # type: ignore[call-arg]
SCRFDDetector.from_backend(object())  # type: ignore[arg-type]
detector.detect("photo.jpg", conf=0.3)  # type: ignore[call-arg]
detector.threshold = 0.3  # type: ignore[attr-defined]
