"""Class-incremental learning: fine-tuning, rehearsal, distillation, weight anchoring, and the upper bound."""
