"""Many cells: plan, cost, the Ray pool, workers and their limits."""
