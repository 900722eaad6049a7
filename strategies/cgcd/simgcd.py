"""SimGCD continued over stages without labels, alone and with LwF: the baselines that Happy's switches are
added to.

SimGCD (Wen et al., ICCV 2023) distils between views while the mean answer over all classes is kept even.
Continued (Happy, Table 1: "SimGCD"), new classes get fresh rows and nothing holds the old ones; with the
previous network's answers distilled it is "SimGCD+". The same without the mean entropy is
`happy[preset=table5-a]`, with every switch off.
"""

from __future__ import annotations

from harness.contracts import param
from strategies.cgcd.happy import Distillation, Entropy, Happy, Initialise, Rehearsal


class SimGCD(Happy):
    """Self-distillation with an even mean answer; nothing protects old classes."""

    entropy: Entropy = param("mean", "mean-entropy regularisation over all classes", since_stage=1)
    initialise: Initialise = param("random", "new rows", since_stage=1)
    rehearsal: Rehearsal = param("off", "rehearsal of old classes", since_stage=1)
    distillation: Distillation = param("off", "what stays near the previous network", since_stage=1)


class SimGCDLwF(SimGCD):
    """SimGCD that also distils the previous network's answers over the old classes."""

    distillation: Distillation = param("answers", "what stays near the previous network", since_stage=1)
