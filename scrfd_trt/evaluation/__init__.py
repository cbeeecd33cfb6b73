"""Average precision of a detector on labelled images: WIDER FACE, COCO and YOLO sets.

>>> from scrfd_trt import SCRFDDetector, evaluation
>>> truth = evaluation.read_ground_truth("labels.json", "photos")  # doctest: +SKIP
>>> detector = SCRFDDetector(threshold=0.02)  # doctest: +SKIP
>>> found = {name: detector.detect(f"photos/{name}") for name in truth.names}  # doctest: +SKIP
>>> evaluation.evaluate(truth, found).ap  # doctest: +SKIP
{'AP50': 0.94, 'AP': 0.61}
"""

from scrfd_trt.evaluation._ground_truth import GroundTruth, read_ground_truth
from scrfd_trt.evaluation._metrics import Curve, Evaluation, SizeRecall, evaluate
from scrfd_trt.evaluation._predictions import Predictions, read_predictions, write_wider_face

__all__ = [
    "Curve", "Evaluation", "GroundTruth", "Predictions", "SizeRecall", "evaluate", "read_ground_truth",
    "read_predictions", "write_wider_face",
]  # fmt: skip
