"""All that the adapter needs of avalanche, loaded when this is imported: seconds of work, done once for all
cells of a worker.
"""

from strategies.avalanche_adapter.loading import avalanche

for _module in ("benchmarks", "models", "training.plugins", "training.supervised"):
    avalanche(_module)
