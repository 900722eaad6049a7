"""Class-incremental learning: classes arrive in stages."""
