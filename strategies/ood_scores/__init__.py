"""OOD scores by name: `formulas` of features and logits, `detectors` with what they were fitted to."""

from strategies.ood_scores.detectors import MEANING, NONE, SCORES, Detector, OODScore, Seen, detector_of

__all__ = ["MEANING", "NONE", "SCORES", "Detector", "OODScore", "Seen", "detector_of"]
