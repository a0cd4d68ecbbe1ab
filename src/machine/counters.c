/* counters.c — what the engine counted, as a table for people. */
#include <inttypes.h>

#include "base/buf.h"
#include "machine/machine_int.h"

static void put_line(struct buf *out, const char *name, const uint64_t *values, unsigned count)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < count; i++) {
        sum += values[i];
    }
    buf_printf(out, "%-30s %14" PRIu64, name, sum);
    for (unsigned i = 0; count > 1 && i < count; i++) {
        buf_printf(out, " %12" PRIu64, values[i]);
    }
    buf_append_str(out, "\n");
}

void machine_counters(struct machine *m, struct buf *out)
{
    struct hv_counter counters[HV_COUNTER_MAX];
    size_t count = 0;

    machine_stop(m);
    machine_join_vcpus(m);
    buf_printf(out, "engine %-23s %14s", m->backend.ops->name, "sum");
    for (unsigned i = 0; m->vcpu_count > 1 && i < m->vcpu_count; i++) {
        buf_printf(out, "       vCPU %u%s", i, i < 10 ? " " : "");
    }
    buf_append_str(out, "\n");
    count = hv_vcpu_counters(m->vcpus[0].hv, counters);
    for (size_t line = 0; line < count; line++) {
        const char *name = counters[line].name;
        uint64_t values[HV_VCPU_MAX];

        for (unsigned i = 0; i < m->vcpu_count; i++) {
            struct hv_counter of_one[HV_COUNTER_MAX];

            (void)hv_vcpu_counters(m->vcpus[i].hv, of_one);
            values[i] = of_one[line].value;
        }
        put_line(out, name, values, m->vcpu_count);
    }
}
