/* diff_soft_test.c — run cases on a vCPU, at CPL 3. */
#include <signal.h>
#include <sys/time.h>

#include "hv/soft/cache/code_int.h"
#include "hv/soft/cache/diff_int.h"
#include "hv/soft/cpu/fpu.h"
#include "hv/soft/cpu/regs.h"
#include "hv/soft/mmu/mmu.h"
#include "tests/lib/soft_vm.h"
#include "tests/lib/test.h"

#define PHYS_DATA   UINT64_C(0x210000)
#define PHYS_DEVICE UINT64_C(0xfe000000)
#define LINE        64u
/* Seconds of CPU time: what ends in the first when it is interpreted must end in the second when it
 * is translated, and verified, again in each round of a loop that writes its own code. */
#define RUN_S       1
#define TRANSLATE_S 30
#define STEPS_MAX   1000000u

struct diff_machine {
    struct soft_vm vm;
    const struct diff_batch *batch;
    uint8_t *code[2], *data[DIFF_PLACES][DIFF_PAGES]; /* on the host */
    uint8_t device[4096];
    uint8_t wanted[DIFF_CODE_BYTES];
    bool is_user, is_compat;
};

/* The two pages of code are not neighbours, nor are those of most regions. */
static uint64_t phys_code(unsigned page)
{
    return UINT64_C(0x200000) + page * 0x3000u;
}

static uint64_t phys_data(unsigned place, unsigned page)
{
    return PHYS_DATA + place * 0x8000u + page * (place == DIFF_PLAIN ? 0x1000u : 0x2000u);
}

/* --- life --- */

static void device(struct vcpu *v, gpa_t gpa, void *data, unsigned len, bool is_write)
{
    struct diff_machine *m = (struct diff_machine *)soft_vm_of(v);
    uint64_t offset = gpa.v - PHYS_DEVICE;

    if (offset > 4096u - len) {
        return;
    }
    if (is_write) {
        memcpy(m->device + offset, data, len);
    } else {
        memcpy(data, m->device + offset, len);
    }
}

static void map_region(struct diff_machine *m, unsigned place)
{
    for (unsigned page = 0; page < DIFF_PAGES; page++) {
        uint64_t la = DIFF_REGION(place) + page * 4096u, phys = phys_data(place, page);
        bool is_special = page == 1;

        m->data[place][page] = mem_ptr(m->vm.mem, GPA(phys), 4096);
        if (is_special && place == DIFF_MISSING) {
            m->data[place][page] = NULL;
            continue;
        }
        if (is_special && place == DIFF_DEVICE) {
            m->data[place][page] = m->device;
            phys = PHYS_DEVICE;
        }
        (void)soft_vm_map(&m->vm, la, phys,
                          PTE_US | PTE_XD | (is_special && place == DIFF_READONLY ? 0 : PTE_RW));
    }
}

static void init_cache(struct vcpu *v, const char *tier)
{
    const char *was = getenv("EC1_SOFT_TIER");
    char *kept = was ? strdup(was) : NULL;

    CHECK_INT(setenv("EC1_SOFT_TIER", tier, 1), 0);
    CHECK_INT(setenv("EC1_SOFT_VERIFY", "1", 0), 0);
    CHECK_INT(code_cache_init(v), 0);
    if (kept) {
        CHECK_INT(setenv("EC1_SOFT_TIER", kept, 1), 0);
    } else {
        CHECK_INT(unsetenv("EC1_SOFT_TIER"), 0);
    }
    free(kept);
}

struct diff_machine *diff_machine_new(const char *tier, unsigned heat)
{
    static struct vcpu_platform platform;
    struct diff_machine *m = calloc(1, sizeof(*m));

    CHECK(m);
    platform = soft_vm_platform;
    platform.mmio = device;
    soft_vm_init(&m->vm);
    m->vm.v->platform = &platform;
    for (unsigned i = 0; i < 2; i++) {
        m->code[i] = mem_ptr(m->vm.mem, GPA(phys_code(i)), 4096);
        (void)soft_vm_map(&m->vm, DIFF_CODE + i * 4096u, phys_code(i), PTE_RW | PTE_US);
    }
    for (unsigned place = 0; place < DIFF_PLACES; place++) {
        map_region(m, place);
    }
    mmu_init(m->vm.v);
    init_cache(m->vm.v, tier);
    CHECK(!m->vm.v->emit == !strcmp(tier, "interp"));
    if (heat) {
        m->vm.v->code->heat = (uint8_t)heat;
    }
    fpu_reset(m->vm.v);
    return m;
}

static struct vcpu *volatile g_running; /* by diff_run_soft(), until the machine goes */

static void unwatch(const struct vcpu *v)
{
    static const struct itimerval never;

    if (g_running == v) {
        (void)setitimer(ITIMER_VIRTUAL, &never, NULL);
        g_running = NULL;
    }
}

void diff_machine_free(struct diff_machine *m)
{
    if (m) {
        unwatch(m->vm.v);
        code_cache_fini(m->vm.v);
        soft_vm_fini(&m->vm);
        free(m);
    }
}

struct vcpu *diff_machine_vcpu(struct diff_machine *m)
{
    return m->vm.v;
}

void diff_machine_begin(struct diff_machine *m, const struct diff_batch *b)
{
    m->batch = b;
    for (unsigned place = 0; place < DIFF_PLACES; place++) {
        for (unsigned page = 0; page < DIFF_PAGES; page++) {
            if (m->data[place][page]) {
                memcpy(m->data[place][page], b->image + page * 4096u, 4096);
            }
        }
    }
}

/* --- a case begins --- */

static void enter_user_mode(struct diff_machine *m, bool is_compat)
{
    struct vcpu *v = m->vm.v;
    unsigned i;

    if (m->is_user && m->is_compat == is_compat) {
        return;
    }
    for (i = 0; i < SEG_TR; i++) {
        v->seg[i] = (struct cpu_segment){.limit = UINT32_MAX, .attr = 0xc0f3, .selector = 0x2b};
    }
    v->seg[SEG_CS].attr = is_compat ? 0xc0fb : 0xa0fb;
    v->seg[SEG_CS].selector = is_compat ? 0x23 : 0x33;
    v->seg[SEG_GS].base = DIFF_GS_BASE;
    v->cr0 |= CR0_MP | CR0_NE;
    v->cr4 |= CR4_OSXSAVE;
    v->xcr0 = XCR0_X87 | XCR0_AVX512_ALL;
    vcpu_set_cpl(v, 3);
    vcpu_update_mode(v);
    m->is_user = true;
    m->is_compat = is_compat;
}

/* What is in memory already stays, and with it what was decoded from it. */
static void load_code(struct diff_machine *m, const struct diff_case *c)
{
    uint64_t offset = c->code_at - DIFF_CODE;
    size_t room = DIFF_CODE_BYTES - offset, len = c->code_len < room ? c->code_len : room;

    memset(m->wanted, DIFF_STOP, sizeof(m->wanted));
    memcpy(m->wanted + offset, c->code, len);
    for (unsigned at = 0; at < DIFF_CODE_BYTES; at += LINE) {
        uint8_t *line = m->code[at / 4096] + at % 4096;

        if (memcmp(line, m->wanted + at, LINE) != 0) {
            memcpy(line, m->wanted + at, LINE);
            code_cache_external_write(m->vm.v, GPA(phys_code(at / 4096) + at % 4096), LINE);
        }
    }
}

static uint8_t *host_of(struct diff_machine *m, uint64_t la)
{
    for (unsigned place = 0; place < DIFF_PLACES; place++) {
        uint64_t offset = la - DIFF_REGION(place);

        if (offset < DIFF_REGION_BYTES && m->data[place][offset / 4096]) {
            return m->data[place][offset / 4096] + offset % 4096;
        }
    }
    return NULL;
}

static void load_memory(struct diff_machine *m, const struct diff_case *c)
{
    for (unsigned i = 0; i < c->word_count; i++) {
        uint8_t *p = host_of(m, c->words[i].at);

        if (p) {
            memcpy(p, &c->words[i].value, 8);
        }
    }
    if (c->regions >> DIFF_CODED & 1) {
        CHECK(code_page_get(m->vm.v, phys_data(DIFF_CODED, 1)));
    }
}

static void load_case(struct diff_machine *m, const struct diff_case *c)
{
    struct vcpu *v = m->vm.v;

    enter_user_mode(m, c->is_compat);
    load_code(m, c);
    load_memory(m, c);
    memcpy(v->gpr, c->start.gpr, sizeof(v->gpr));
    v->rip = c->start.rip;
    v->shadow = 0;
    vcpu_set_rflags(v, c->start.rflags);
    memcpy(v->xsave, c->start.fx, FPU_IMAGE_LEN);
}

/* --- a case ends --- */

static int code_byte(const struct diff_machine *m, uint64_t rip)
{
    uint64_t offset = rip - DIFF_CODE;

    return offset < DIFF_CODE_BYTES ? m->code[offset / 4096][offset % 4096] : -1;
}

bool diff_decode(const struct diff_machine *m, uint64_t at, struct insn *ret_insn)
{
    uint8_t bytes[INSN_LEN_MAX];
    size_t len = 0;

    while (len < sizeof(bytes) && code_byte(m, at + len) >= 0) {
        bytes[len] = (uint8_t)code_byte(m, at + len);
        len++;
    }
    return insn_decode(bytes, len, INSN_MODE_64, ret_insn) == INSN_OK;
}

static void take_case(struct diff_machine *m, const struct diff_case *c, struct diff_result *r)
{
    struct vcpu *v = m->vm.v;

    memcpy(r->end.gpr, v->gpr, sizeof(v->gpr));
    r->end.rip = v->rip;
    r->end.rflags = vcpu_rflags(v);
    memcpy(r->end.fx, v->xsave, FPU_IMAGE_LEN);
    r->word_count = 0;
    for (unsigned place = 0; place < DIFF_PLACES; place++) {
        for (unsigned page = 0; page < DIFF_PAGES && c->regions >> place & 1; page++) {
            if (m->data[place][page]) {
                diff_take_page(r, m->batch->image + page * 4096u, m->data[place][page],
                               DIFF_REGION(place) + page * 4096u);
            }
        }
    }
    diff_settle(c, r, code_byte(m, v->rip));
}

/* --- running --- */

static volatile sig_atomic_t g_is_late;

static void on_late(int sig)
{
    (void)sig;
    if (g_running) {
        g_is_late = 1;
        atomic_fetch_or(&g_running->poll, POLL_STOP);
    }
}

static void watch(struct vcpu *v)
{
    struct itimerval timer = {.it_value.tv_sec = v->emit ? TRANSLATE_S : RUN_S};

    g_running = v;
    g_is_late = 0;
    (void)signal(SIGVTALRM, on_late);
    (void)setitimer(ITIMER_VIRTUAL, &timer, NULL);
}

static void run_once(struct diff_machine *m, const struct diff_case *c, struct diff_result *r)
{
    struct vcpu *v = m->vm.v;

    load_case(m, c);
    r->vector = DIFF_NONE;
    r->error = 0;
    r->cr2 = 0;
    if (_setjmp(v->unwind)) {
        r->vector = v->exc.vector;
        r->error = v->exc.has_error ? v->exc.error : 0;
        r->cr2 = v->exc.vector == EXC_PF ? v->exc.cr2 : 0;
    } else if (c->is_step && !v->emit) {
        code_step(v);
    } else {
        while (!g_is_late && !v->broken) {
            code_run(v);
        }
        r->vector = DIFF_TIMEOUT;
        atomic_store(&v->poll, 0);
    }
    if (v->broken) { /* a result like others, which is reported and made smaller */
        print_error("%s\n", v->why);
        CHECK(v->is_lockstep); /* nothing else may say so */
        v->broken = false;
        r->vector = DIFF_BROKEN;
    }
    CHECK_INT(v->vec_live, 0);
    take_case(m, c, r);
}

void diff_run_soft(struct diff_machine *m, const struct diff_case *c, unsigned times,
                   struct diff_result *ret)
{
    g_is_late = 0;
    if (!c->is_step) {
        watch(m->vm.v);
    }
    for (unsigned i = 0; i < times && !g_is_late; i++) {
        run_once(m, c, ret);
    }
    g_running = NULL;
}

bool diff_meets(struct diff_machine *m, const struct diff_case *c,
                bool (*is_it)(const struct insn *insn, const struct vcpu *v))
{
    struct vcpu *v = m->vm.v;
    struct diff_result r;
    volatile bool meets = false;
    volatile unsigned steps = 0;
    struct insn insn;

    load_case(m, c);
    if (!_setjmp(v->unwind)) {
        while (!meets && steps++ < STEPS_MAX) {
            meets = diff_decode(m, v->rip, &insn) && is_it(&insn, v);
            code_step(v);
        }
    }
    take_case(m, c, &r);
    return meets;
}

void diff_perturb(struct diff_machine *m, struct diff_random *r)
{
    unsigned place = diff_dice(r, DIFF_PLACES), page = diff_dice(r, DIFF_PAGES);
    uint64_t la = DIFF_REGION(place) + page * 4096u, entry;

    switch (diff_dice(r, 16)) {
    case 0: mmu_flush_all(m->vm.v); break;
    case 1: mmu_flush_non_global(m->vm.v); break;
    case 2: mmu_flush_page(m->vm.v, la); break;
    case 3: /* as a kernel that looks what is in use */
        entry = soft_vm_entry(&m->vm, la, 12);
        soft_vm_poke(&m->vm, entry, soft_vm_peek(&m->vm, entry) & ~(uint64_t)(PTE_A | PTE_D));
        mmu_flush_page(m->vm.v, la);
        break;
    default: break;
    }
}
