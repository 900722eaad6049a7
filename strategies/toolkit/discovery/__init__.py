"""What discovery of classes shares in both its families: split networks, two views, losses, the feature
cache.
"""
