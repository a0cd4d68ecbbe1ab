/* smc.c — writes to decoded code that come from other threads: devices, the monitor, other vCPUs.
 *
 * The writer queues the range and sets POLL_SMC; the vCPU drops the blocks at its next poll point,
 * that is, before it runs another block.  It need not be woken for that.  Whoever tells the guest
 * that its data has arrived does so by an interrupt, or by a store that follows the one to
 * POLL_SMC.
 *
 * Between vCPUs there is a second kind of message.  A vCPU that makes a page a code page relies on
 * being told of every write; but another one may hold the page in its write table, where nothing
 * is told.  So it says that the page is code now, and they drop such entries; one that had any has
 * perhaps written meanwhile, and says so in its turn by reporting the whole page as written.
 */
#include "hv/soft/cache/code.h"
#include "hv/soft/mmu/mmu.h"
#include "hv/soft/soft_int.h"

void smc_init(struct smc_queue *q)
{
    (void)pthread_mutex_init(&q->lock, NULL);
    q->count = 0;
    q->filling = 0;
}

void smc_fini(struct smc_queue *q)
{
    (void)pthread_mutex_destroy(&q->lock);
}

static void append(struct smc_queue *q, uint64_t gpa, uint64_t len)
{
    struct smc_write *write = q->write[q->filling];
    struct smc_write *last = q->count ? &write[q->count - 1] : NULL;

    if (q->count > SMC_MAX) {
        return;
    }
    if (last && len && last->len && last->gpa + last->len == gpa) {
        last->len += len;
    } else if (q->count == SMC_MAX) {
        q->count = SMC_MAX + 1;
    } else {
        write[q->count++] = (struct smc_write){.gpa = gpa, .len = len};
    }
}

static void tell_all_but(struct soft_vm *vm, const struct soft_vcpu *self, gpa_t gpa, uint64_t len)
{
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        struct soft_vcpu *s = vm->vcpu[i];

        if (s && s != self) {
            (void)pthread_mutex_lock(&s->smc.lock);
            append(&s->smc, gpa.v, len);
            (void)pthread_mutex_unlock(&s->smc.lock);
            atomic_fetch_or(&s->cpu.poll, POLL_SMC);
        }
    }
}

void smc_note(void *owner, gpa_t gpa, uint64_t len)
{
    tell_all_but(owner, NULL, gpa, len);
}

void smc_tell_others(struct soft_vcpu *self, gpa_t gpa, uint64_t len)
{
    tell_all_but(self->vm, self, gpa, len);
}

void smc_forget_all(struct soft_vm *vm)
{
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        struct soft_vcpu *s = vm->vcpu[i];

        if (s) {
            (void)pthread_mutex_lock(&s->smc.lock);
            s->smc.count = SMC_MAX + 1;
            (void)pthread_mutex_unlock(&s->smc.lock);
            atomic_fetch_or(&s->cpu.poll, POLL_SMC);
        }
    }
}

void smc_serve(struct soft_vcpu *s)
{
    const struct smc_write *write;
    unsigned count;

    (void)pthread_mutex_lock(&s->smc.lock);
    write = s->smc.write[s->smc.filling];
    count = s->smc.count;
    s->smc.filling ^= 1;
    s->smc.count = 0;
    (void)pthread_mutex_unlock(&s->smc.lock);
    if (count > SMC_MAX) {
        code_cache_clear(&s->cpu);
        mmu_flush_all(&s->cpu);
        return;
    }
    for (unsigned i = 0; i < count; i++) {
        if (write[i].len) {
            code_cache_external_write(&s->cpu, GPA(write[i].gpa), write[i].len);
        } else {
            code_cache_page_shared(&s->cpu, GPA(write[i].gpa));
        }
    }
}
