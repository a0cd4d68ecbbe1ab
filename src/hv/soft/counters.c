/* counters.c — what the software engine counted, under names for people. */
#include "hv/soft/cache/code.h"
#include "hv/soft/soft_int.h"

#define COUNT_ONE(name, text) +1
_Static_assert(0 VCPU_STATS_LIST(COUNT_ONE) VCPU_RUN_STATS_LIST(COUNT_ONE)
                           VCPU_LOCKSTEP_STATS_LIST(COUNT_ONE) +
                       2 <=
                   HV_COUNTER_MAX,
               "a line too many in cpu/stats.h");
#undef COUNT_ONE

size_t soft_vcpu_counters(const struct hv_vcpu *hv, struct hv_counter *ret_counters)
{
    const struct soft_vcpu *s = (const void *)hv; /* hv is its first member */
    const struct vcpu_stats *stats = &s->cpu.stats;
    struct hv_counter *to = ret_counters;
    struct code_usage usage;

    code_cache_usage(&s->cpu, &usage);
#define X(field, text) *to++ = (struct hv_counter){.name = (text), .value = stats->field};
    if (s->cpu.count_runs) {
        VCPU_RUN_STATS_LIST(X)
    }
    VCPU_STATS_LIST(X)
    if (s->cpu.is_lockstep) {
        VCPU_LOCKSTEP_STATS_LIST(X)
    }
#undef X
    *to++ = (struct hv_counter){.name = "bytes of decoded blocks", .value = usage.block_bytes};
    *to++ = (struct hv_counter){.name = "bytes of translated code", .value = usage.code_bytes};
    return (size_t)(to - ret_counters);
}
