/* smc.c — writes to decoded code that come from other threads: devices, the monitor.
 *
 * The writer queues the range and sets POLL_SMC; the vCPU drops the blocks at its next poll point.
 * It need not be woken for that.  Whoever tells the guest that its data has arrived does so by an
 * interrupt, which the vCPU sees only after this.
 */
#include "hv/soft/cache/code.h"
#include "hv/soft/soft_int.h"

void smc_init(struct smc_queue *q)
{
    (void)pthread_mutex_init(&q->lock, NULL);
    q->count = 0;
}

void smc_fini(struct smc_queue *q)
{
    (void)pthread_mutex_destroy(&q->lock);
}

static void append(struct smc_queue *q, uint64_t gpa, uint64_t len)
{
    struct smc_write *last = q->count ? &q->write[q->count - 1] : NULL;

    if (q->count > SMC_MAX) {
        return;
    }
    if (last && last->gpa + last->len == gpa) {
        last->len += len;
    } else if (q->count == SMC_MAX) {
        q->count = SMC_MAX + 1;
    } else {
        q->write[q->count++] = (struct smc_write){.gpa = gpa, .len = len};
    }
}

void smc_note(void *owner, gpa_t gpa, uint64_t len)
{
    struct soft_vm *vm = owner;

    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        struct soft_vcpu *s = vm->vcpu[i];

        if (s) {
            (void)pthread_mutex_lock(&s->smc.lock);
            append(&s->smc, gpa.v, len);
            (void)pthread_mutex_unlock(&s->smc.lock);
            atomic_fetch_or(&s->cpu.poll, POLL_SMC);
        }
    }
}

void smc_serve(struct soft_vcpu *s)
{
    struct smc_write write[SMC_MAX];
    unsigned count;

    (void)pthread_mutex_lock(&s->smc.lock);
    count = s->smc.count;
    for (unsigned i = 0; i < count && i < SMC_MAX; i++) {
        write[i] = s->smc.write[i];
    }
    s->smc.count = 0;
    (void)pthread_mutex_unlock(&s->smc.lock);
    if (count > SMC_MAX) {
        code_cache_clear(&s->cpu);
        return;
    }
    for (unsigned i = 0; i < count; i++) {
        code_cache_external_write(&s->cpu, GPA(write[i].gpa), write[i].len);
    }
}
