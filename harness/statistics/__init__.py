"""What a handful of seeds can tell: intervals, paired tests, corrections, letters. Arrays in, numbers out.

The unit of replication is the seed, which changes everything random, and contenders are compared seed by
seed. Several scenarios are
strata: a series of figures for each. Few seeds get Student's t: percentile bootstrap intervals cover far too
rarely there (`benchmarks/interval_coverage.py` prints by how much). Non-finite figures are left out, in pairs
where there are pairs, and every result says how many it rests on. Where the figures cannot decide, the answer
is NaN, never a guess.
"""

from __future__ import annotations

from harness.statistics.aggregates import iqm, optimality_gap
from harness.statistics.all_pairs import Better, compare_all
from harness.statistics.bootstrap import mean_over_strata, percentile_bootstrap, studentised_bootstrap
from harness.statistics.equivalence import Equivalence, two_one_sided, two_one_sided_within_strata
from harness.statistics.failures import Filled, failures_as
from harness.statistics.friedman_ranks import Friedman, friedman, mean_ranks
from harness.statistics.improvement import probability_of_improvement
from harness.statistics.intervals import Interval, pooled_sd, t_interval, t_quantile
from harness.statistics.letters import Letters, compact_letters
from harness.statistics.multiple import holm
from harness.statistics.nemenyi import RankGroups, critical_difference, rank_groups
from harness.statistics.paired import Comparison, paired_differences, paired_t
from harness.statistics.power import detectable_within_strata, minimum_detectable_difference
from harness.statistics.profiles import Profile, performance_profile
from harness.statistics.rank_ranges import rank_ranges
from harness.statistics.rank_sums import (
    rank_sum,
    rank_sum_by_wins,
    rank_sum_within_strata,
    smallest_rank_sum_p,
)
from harness.statistics.sign_flips import (
    EXACT_UP_TO,
    fewest_pairs,
    sign_flip,
    sign_flip_within_strata,
    smallest_sign_flip_p,
)
from harness.statistics.signed_ranks import wilcoxon, wilcoxon_holm
from harness.statistics.stratified import differences_within, pooled_paired_t, pooled_t, pooled_t_each
from harness.statistics.times import Times, kaplan_meier_median, times_reached

__all__ = [
    "EXACT_UP_TO",
    "Better",
    "Comparison",
    "Equivalence",
    "Filled",
    "Friedman",
    "Interval",
    "Letters",
    "Profile",
    "RankGroups",
    "Times",
    "compact_letters",
    "compare_all",
    "critical_difference",
    "detectable_within_strata",
    "differences_within",
    "failures_as",
    "fewest_pairs",
    "friedman",
    "holm",
    "iqm",
    "kaplan_meier_median",
    "mean_over_strata",
    "mean_ranks",
    "minimum_detectable_difference",
    "optimality_gap",
    "paired_differences",
    "paired_t",
    "percentile_bootstrap",
    "performance_profile",
    "pooled_paired_t",
    "pooled_sd",
    "pooled_t",
    "pooled_t_each",
    "probability_of_improvement",
    "rank_groups",
    "rank_ranges",
    "rank_sum",
    "rank_sum_by_wins",
    "rank_sum_within_strata",
    "sign_flip",
    "sign_flip_within_strata",
    "smallest_rank_sum_p",
    "smallest_sign_flip_p",
    "studentised_bootstrap",
    "t_interval",
    "t_quantile",
    "times_reached",
    "two_one_sided",
    "two_one_sided_within_strata",
    "wilcoxon",
    "wilcoxon_holm",
]
