"""Model selection on a validation split: settings are chosen without any test label."""
