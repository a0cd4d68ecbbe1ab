/* hv_state.c — the fields of CPUs and clocks, in the order of the structs. */
#include "hv/hv_state.h"

#include "base/bits.h"
#include "hv/cpuid.h"
#include "state/state.h"

static void segment_fields(struct cpu_segment *seg, struct state *s)
{
    STATE(s, seg->base);
    STATE(s, seg->limit);
    STATE(s, seg->attr);
    STATE(s, seg->selector);
}

static void table_fields(struct cpu_table *table, struct state *s)
{
    STATE(s, table->base);
    STATE(s, table->limit);
}

static void register_fields(struct cpu_state *cpu, struct state *s)
{
    for (unsigned i = 0; i < GPR_COUNT; i++) {
        STATE(s, cpu->gpr[i]);
    }
    STATE(s, cpu->rip);
    STATE(s, cpu->rflags);
    for (unsigned i = 0; i < SEG_COUNT; i++) {
        segment_fields(&cpu->seg[i], s);
    }
    table_fields(&cpu->gdt, s);
    table_fields(&cpu->idt, s);
    STATE(s, cpu->cr0);
    STATE(s, cpu->cr2);
    STATE(s, cpu->cr3);
    STATE(s, cpu->cr4);
    STATE(s, cpu->cr8);
    STATE(s, cpu->efer);
    STATE(s, cpu->apic_base);
    STATE(s, cpu->xcr0);
    for (unsigned i = 0; i < ARRAY_LEN(cpu->dr); i++) {
        STATE(s, cpu->dr[i]);
    }
}

static void event_fields(struct cpu_events *events, struct state *s)
{
    STATE(s, events->interrupt_shadow);
    STATE(s, events->nmi_blocked);
    STATE(s, events->nmi_pending);
    STATE(s, events->exception_pending);
    STATE(s, events->exception_vector);
    STATE(s, events->exception_has_error);
    STATE(s, events->exception_error);
    STATE(s, events->nmi_injected);
    STATE(s, events->interrupt_pending);
    STATE(s, events->interrupt_vector);
}

void cpu_state_fields(struct cpu_state *cpu, struct state *s)
{
    uint32_t run_state = cpu->run_state;

    register_fields(cpu, s);
    state_u32(s, "run state", &run_state);
    if (s->is_loading && run_state > CPU_WAIT_FOR_SIPI) {
        state_refuse(s, "run state", "%u: must be at most %d", run_state, CPU_WAIT_FOR_SIPI);
    } else {
        cpu->run_state = (enum cpu_run_state)run_state;
    }
    event_fields(&cpu->events, s);
    state_bytes(s, "xsave", cpu->xsave, sizeof(cpu->xsave));
    state_bytes(s, "lapic", cpu->lapic, sizeof(cpu->lapic));
    state_count(s, "msrs", &cpu->msr_count, CPU_MSR_MAX);
    for (unsigned i = 0; i < cpu->msr_count; i++) {
        STATE(s, cpu->msr[i].index);
        STATE(s, cpu->msr[i].value);
    }
}

void vm_state_fields(struct vm_state *vm, struct state *s)
{
    STATE(s, vm->tsc_khz);
    STATE(s, vm->clock_ns);
    STATE(s, vm->wall_ns);
    STATE(s, vm->ioapic.select);
    STATE(s, vm->ioapic.id);
    STATE(s, vm->ioapic.lines);
    for (unsigned i = 0; i < HV_IRQ_LINES; i++) {
        STATE(s, vm->ioapic.redir[i]);
    }
}

void cpuid_fields(struct hv_cpuid *table, struct state *s)
{
    state_count(s, "leaves", &table->count, HV_CPUID_MAX);
    for (unsigned i = 0; i < table->count; i++) {
        struct hv_cpuid_entry *entry = &table->entries[i];

        STATE(s, entry->leaf);
        STATE(s, entry->subleaf);
        STATE(s, entry->flags);
        for (unsigned reg = 0; reg < CPUID_REGS; reg++) {
            STATE(s, entry->regs[reg]);
        }
    }
}
