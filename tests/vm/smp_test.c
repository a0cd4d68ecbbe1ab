/* smp_test.c — several vCPUs: begun by INIT and SIPI, each with an id of its own. */
#include <pthread.h>
#include <stdatomic.h>

#include "tests/vm/guest.h"

/* What the guest writes: a count at DATA_AT, a byte for each APIC id. */
#define IDS_AT (DATA_AT + 0x100)

struct ap {
    struct guest *g;
    unsigned index;
    pthread_t thread;
    atomic_bool *stop;
    int result;
};

static void *run_ap(void *arg)
{
    struct ap *ap = arg;

    while (ap->result == 0 && !atomic_load(ap->stop)) {
        enum hv_exit why = HV_EXIT_BROKEN;

        ap->result = hv_vcpu_run(ap->g->cpu[ap->index], &why);
        if (ap->result == 0 && why != HV_EXIT_KICKED) {
            print_error("CPU %u: exit %d %s\n", ap->index, (int)why,
                        hv_vcpu_why(ap->g->cpu[ap->index]));
            ap->result = -1;
        }
    }
    return NULL;
}

static void start_and_count(unsigned count)
{
    static struct ap aps[HV_VCPU_MAX];
    static struct guest g;
    atomic_bool stop = false;

    guest_init(&g, count);
    GUEST_PUT(&g, CODE_AT, smp_boot);
    GUEST_PUT(&g, AP_AT, smp_ap);
    state_long64(&g);
    g_state.gpr[GPR_R14] = count - 1;
    for (unsigned i = 1; i < count; i++) {
        aps[i] = (struct ap){.g = &g, .index = i, .stop = &stop};
        CHECK_INT(pthread_create(&aps[i].thread, NULL, run_ap, &aps[i]), 0);
    }
    CHECK_INT(guest_run(&g), HV_EXIT_KICKED);
    CHECK(g.has_exited);
    atomic_store(&stop, true);
    for (unsigned i = 1; i < count; i++) {
        hv_vcpu_kick(g.cpu[i]);
        CHECK_INT(pthread_join(aps[i].thread, NULL), 0);
        CHECK_INT(aps[i].result, 0);
    }
    for (unsigned i = 0; i < HV_VCPU_MAX; i++) {
        const uint8_t *id = mem_ptr(g.mem, GPA(IDS_AT + i), 1);

        CHECK_INT(*id, i > 0 && i < count ? 1 : 0);
    }
    guest_fini(&g);
}

#define SMP_TEST(count)                          \
    TEST(vm, init_and_sipi_start_cpus_##count)   \
    {                                            \
        if ((count) > g_ops->vcpu_max) {         \
            SKIP("this backend has fewer CPUs"); \
        }                                        \
        start_and_count(count);                  \
    }

SMP_TEST(1)
SMP_TEST(2)
SMP_TEST(4)
SMP_TEST(32)
