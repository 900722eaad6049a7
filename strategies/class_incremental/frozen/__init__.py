"""Class-incremental learners on frozen features: nothing is trained, statistics of features are updated."""
