"""The autoscaler of a cluster that was joined: whether there is one, and a node that it is asked for.

Ray's own parts of it report nodes too where nobody starts any: they call each node of a cluster that was started by
hand a kind of its own. So who has nodes of a named kind has an autoscaler.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.execution.machine import Machine

_log = logging.getLogger(__name__)

PATIENCE_S = 60.0
"""How long an autoscaler may start nothing before it is taken not to."""
_LOOK_S = 1.0
_BY_HAND = "node_"


def wait_for_room(machine: Machine, shortage: Callable[[], str]) -> str:
    """Ask the autoscaler for what the workers need and wait until a node has room for one; return what stands
    against it, `shortage`, where there is no autoscaler or it starts no such node; empty where there is room.
    """
    said = shortage()
    if not said or _starting() is None:
        return said
    _log.warning(
        "no node of the cluster has room for a worker: its autoscaler is asked for one, which is waited for"
    )
    _ask_for([machine.needed] * (machine.workers or 1), machine.labelled)
    idle_since = time.monotonic()
    try:
        while said := shortage():
            if _starting():
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since > PATIENCE_S:
                return f"{said}; the cluster's autoscaler was asked, and starts no node that has it"
            time.sleep(_LOOK_S)
    finally:
        _ask_for([], {})
    return ""


def _ask_for(bundles: Sequence[Mapping[str, float]], labels: Mapping[str, str]) -> None:
    """Have the autoscaler keep room for these, in place of what it was asked for before."""
    from ray.autoscaler.sdk import request_resources

    options: dict[str, Any] = {"bundle_label_selectors": [dict(labels)] * len(bundles)} if labels else {}
    request_resources(bundles=[dict(each) for each in bundles], **options)


def _starting() -> int | None:
    """Return how many nodes an autoscaler is starting, None where there is none."""
    from ray.autoscaler.v2.utils import is_autoscaler_v2

    kinds, starting = _seen_by_second() if is_autoscaler_v2() else _seen_by_first()
    return starting if any(not kind.startswith(_BY_HAND) for kind in kinds) else None


def _seen_by_first() -> tuple[list[str], int]:
    """Return the kinds of the nodes that are there, and how many are to come, by Ray's first autoscaler."""
    from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
    from ray.experimental.internal_kv import _internal_kv_get

    status = json.loads(_internal_kv_get(DEBUG_AUTOSCALING_STATUS) or "{}")
    report = status.get("autoscaler_report") or {}
    to_come = len(report.get("pending_nodes") or []) + sum((report.get("pending_launches") or {}).values())
    return [*(report.get("node_type_mapping") or {}).values()], to_come


def _seen_by_second() -> tuple[list[str], int]:
    """Return the same by its second one."""
    import ray
    from ray.autoscaler.v2.sdk import get_cluster_status

    status = get_cluster_status(ray.get_runtime_context().gcs_address)
    there = [node.ray_node_type_name for node in (*status.active_nodes, *status.idle_nodes)]
    return there, len(status.pending_nodes) + sum(each.count for each in status.pending_launches)


__all__ = ["PATIENCE_S", "wait_for_room"]
