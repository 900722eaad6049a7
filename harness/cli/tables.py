def show(records, *, as_json):
    from harness import console

    console.grid(
        ["scenario", "strategy", "seed", "status", "metrics"],
        [[r.scenario, r.strategy, str(r.seed), r.status, str({k: round(v, 3) for k, v in r.metrics.items()})] for r in records],
    )
