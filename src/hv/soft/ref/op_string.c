/* op_string.c — MOVS STOS LODS CMPS SCAS INS OUTS, with and without a repeat prefix.
 *
 * One call does as much as it can.  Registers are brought up to date after each element or chunk,
 * so a fault or an interrupt in the middle leaves them at the element that comes next, with v->rip
 * on the instruction.  Where the operands are plain RAM and the direction is up, they go by the
 * page; CMPS and SCAS by the host's own instructions. */
#include "hv/soft/ref/lower_int.h"
#include "hv/soft/ref/sys.h"

#define ELEMENTS_PER_POLL 4096u
#define RUN_BYTES_MAX     65536u /* at once: some microseconds until somebody looks at poll */

struct string_op {
    struct vcpu *v;
    const struct insn *insn;
    uint64_t mask; /* of rSI, rDI, rCX */
    int64_t step;  /* bytes per element, negative if DF */
    unsigned size;
    enum cpu_seg seg; /* of rSI */
};

static struct string_op string_begin(struct vcpu *v, const struct insn *insn)
{
    unsigned size = insn->opsize;

    return (struct string_op){
        .v = v,
        .insn = insn,
        .mask = insn->addrsize == 8   ? UINT64_MAX
                : insn->addrsize == 4 ? UINT32_MAX
                                      : UINT16_MAX,
        .step = vcpu_has_flag(v, FLAG_DF) ? -(int64_t)size : (int64_t)size,
        .size = size,
        .seg = (enum cpu_seg)insn->seg,
    };
}

/* rSI, rDI, rCX by address size: 32-bit writes clear the upper half, 16-bit ones leave the rest. */
static void set_reg(const struct string_op *s, enum cpu_gpr reg, uint64_t value)
{
    uint64_t *r = &s->v->gpr[reg];

    *r = s->mask == UINT16_MAX ? (*r & ~s->mask) | (value & s->mask) : value & s->mask;
}

static uint64_t get_reg(const struct string_op *s, enum cpu_gpr reg)
{
    return s->v->gpr[reg] & s->mask;
}

static void advance(const struct string_op *s, enum cpu_gpr reg, uint64_t elements)
{
    set_reg(s, reg, s->v->gpr[reg] + (uint64_t)s->step * elements);
}

static uint64_t source_la(const struct string_op *s)
{
    return ref_linear(s->v, s->seg, get_reg(s, GPR_RSI), s->size, false);
}

static uint64_t dest_la(const struct string_op *s, bool is_write)
{
    return ref_linear(s->v, SEG_ES, get_reg(s, GPR_RDI), s->size, is_write);
}

static uint64_t read_element(struct vcpu *v, uint64_t la, unsigned size)
{
    switch (size) {
    case 1: return mmu_read8(v, la);
    case 2: return mmu_read16(v, la);
    case 4: return mmu_read32(v, la);
    default: return mmu_read64(v, la);
    }
}

static void write_element(struct vcpu *v, uint64_t la, uint64_t value, unsigned size)
{
    switch (size) {
    case 1: mmu_write8(v, la, (uint8_t)value); break;
    case 2: mmu_write16(v, la, (uint16_t)value); break;
    case 4: mmu_write32(v, la, (uint32_t)value); break;
    default: mmu_write64(v, la, value); break;
    }
}

/* --- by the page --- */

/* Whole elements from la to the end of its page, at most `count`. */
static uint64_t elements_in_page(uint64_t la, unsigned size, uint64_t count)
{
    uint64_t room = (4096 - (la & 0xfff)) / size;

    return room < count ? room : count;
}

static bool can_chunk(const struct string_op *s)
{
    return s->v->mode == MODE_LONG64 && s->mask == UINT64_MAX && s->step > 0;
}

/* Where a run begins; its first page was hit. */
struct run {
    enum tlb_access access;
    uint64_t la;
    const uint8_t *host;
};

/* Bytes on which the host can work at once: up to the end of the page, and on as long as the pages
 * behind lie one after another on the host, too. */
static uint64_t run_bytes(struct vcpu *v, const struct run *run, uint64_t wanted)
{
    uint64_t bytes = 4096 - (run->la & 0xfff);

    while (bytes < wanted && mmu_hit(v, run->access, run->la + bytes, 1) == run->host + bytes) {
        bytes += 4096;
    }
    return bytes < wanted ? bytes : wanted;
}

static uint64_t bytes_wanted(const struct string_op *s, uint64_t count)
{
    return count < RUN_BYTES_MAX / s->size ? count * s->size : RUN_BYTES_MAX;
}

/* Copy up, element by element where the destination is ahead of the source and near. */
static void copy_chunk(uint8_t *to, const uint8_t *from, size_t bytes, unsigned size)
{
    size_t ahead = (uintptr_t)to - (uintptr_t)from;

    if (ahead >= bytes) {
        memmove(to, from, bytes);
        return;
    }
    for (size_t i = 0; i < bytes; i += size) {
        uint8_t element[8];

        memcpy(element, from + i, size);
        memcpy(to + i, element, size);
    }
}

/* How many elements the host can copy at once: not so many that the runs overlap. */
static uint64_t copy_run(const struct string_op *s, uint64_t count, const struct run *from,
                         const struct run *to)
{
    uint64_t bytes = bytes_wanted(s, count), ahead = (uintptr_t)to->host - (uintptr_t)from->host;

    bytes = bytes < ahead ? bytes : ahead;
    bytes = run_bytes(s->v, from, bytes);
    return run_bytes(s->v, to, bytes) / s->size;
}

static uint64_t movs_chunk(const struct string_op *s, uint64_t count)
{
    uint64_t from = source_la(s), to = dest_la(s, true);
    uint64_t n = elements_in_page(to, s->size, elements_in_page(from, s->size, count));
    size_t bytes = n * s->size;
    const uint8_t *host_from;
    uint8_t *host_to;

    if (n < 2) {
        return 0;
    }
    host_from = mmu_hit(s->v, TLB_READ, from, (unsigned)bytes);
    host_from = host_from ? host_from : mmu_ptr_read(s->v, from, bytes);
    host_to = mmu_hit(s->v, TLB_WRITE, to, (unsigned)bytes);
    host_to = host_to ? host_to : mmu_ptr_write(s->v, to, bytes);
    if (!host_from || !host_to) {
        return 0;
    }
    if (n < count) {
        uint64_t more = copy_run(s, count, &(struct run){TLB_READ, from, host_from},
                                 &(struct run){TLB_WRITE, to, host_to});

        n = more > n ? more : n;
    }
    copy_chunk(host_to, host_from, n * s->size, s->size);
    advance(s, GPR_RSI, n);
    advance(s, GPR_RDI, n);
    return n;
}

static void fill(uint8_t *to, uint64_t value, size_t bytes, unsigned size)
{
    uint64_t byte = value & 0xff, all = byte * UINT64_C(0x0101010101010101);

    if (size == 1 || memcmp(&value, &all, size) == 0) {
        memset(to, (int)byte, bytes);
        return;
    }
    for (size_t i = 0; i < bytes; i += size) {
        memcpy(to + i, &value, size);
    }
}

static uint64_t stos_chunk(const struct string_op *s, uint64_t count)
{
    uint64_t to = dest_la(s, true), n = elements_in_page(to, s->size, count);
    size_t bytes = n * s->size;
    uint8_t *host;

    if (n < 2) {
        return 0;
    }
    host = mmu_hit(s->v, TLB_WRITE, to, (unsigned)bytes);
    host = host ? host : mmu_ptr_write(s->v, to, bytes);
    if (!host) {
        return 0;
    }
    if (n < count) {
        uint64_t run = run_bytes(s->v, &(struct run){TLB_WRITE, to, host}, bytes_wanted(s, count));

        n = run / s->size > n ? run / s->size : n;
    }
    fill(host, s->v->gpr[GPR_RAX], n * s->size, s->size);
    advance(s, GPR_RDI, n);
    return n;
}

/* --- one element; returns how many were done --- */

static uint64_t movs(const struct string_op *s, uint64_t count)
{
    uint64_t n = count > 1 && can_chunk(s) ? movs_chunk(s, count) : 0;

    if (n == 0) {
        uint64_t from = source_la(s), to = dest_la(s, true);

        write_element(s->v, to, read_element(s->v, from, s->size), s->size);
        advance(s, GPR_RSI, 1);
        advance(s, GPR_RDI, 1);
        n = 1;
    }
    return n;
}

static uint64_t stos(const struct string_op *s, uint64_t count)
{
    uint64_t n = count > 1 && can_chunk(s) ? stos_chunk(s, count) : 0;

    if (n == 0) {
        write_element(s->v, dest_la(s, true), s->v->gpr[GPR_RAX], s->size);
        advance(s, GPR_RDI, 1);
        n = 1;
    }
    return n;
}

static void set_rax(struct vcpu *v, uint64_t value, unsigned size)
{
    if (size == 4) {
        v->gpr[GPR_RAX] = (uint32_t)value;
    } else {
        memcpy(&v->gpr[GPR_RAX], &value, size);
    }
}

static uint64_t lods(const struct string_op *s, uint64_t count __attribute__((unused)))
{
    set_rax(s->v, read_element(s->v, source_la(s), s->size), s->size);
    advance(s, GPR_RSI, 1);
    return 1;
}

/* Flags of a - b. */
static void compare(struct vcpu *v, uint64_t a, uint64_t b, unsigned size)
{
    uint16_t f;

    switch (size) {
    case 1: __asm__("cmpb %b2, %b1; " ASM_FLAGS_OUT : "=&a"(f) : "q"(a), "q"(b) : "cc"); break;
    case 2: __asm__("cmpw %w2, %w1; " ASM_FLAGS_OUT : "=&a"(f) : "r"(a), "r"(b) : "cc"); break;
    case 4: __asm__("cmpl %k2, %k1; " ASM_FLAGS_OUT : "=&a"(f) : "r"(a), "r"(b) : "cc"); break;
    default: __asm__("cmpq %2, %1; " ASM_FLAGS_OUT : "=&a"(f) : "r"(a), "r"(b) : "cc"); break;
    }
    v->aflags = f;
}

/* The host's own instruction up to the end of a page, or until it stops; `ax` holds AX before and
 * flags afterwards. */
#define HOST_STRING(insn, suffix)                             \
    __asm__ volatile(insn suffix "; " ASM_FLAGS_OUT           \
                     : "+S"(a), "+D"(b), "+c"(left), "+a"(ax) \
                     :                                        \
                     : "cc", "memory")
#define HOST_STRING_BY_SIZE(insn)           \
    switch (s->size) {                      \
    case 1: HOST_STRING(insn, "b"); break;  \
    case 2: HOST_STRING(insn, "w"); break;  \
    case 4: HOST_STRING(insn, "l"); break;  \
    default: HOST_STRING(insn, "q"); break; \
    }

/* `b` is what rDI points to; `a`, if it is not NULL, what rSI points to.  Returns elements done. */
static uint64_t compare_run(const struct string_op *s, const uint8_t *a, const uint8_t *b,
                            uint64_t count)
{
    bool is_equal = s->insn->rep == 0xf3;
    uint64_t left = count, ax = s->v->gpr[GPR_RAX];

    if (a && is_equal) {
        HOST_STRING_BY_SIZE("repe cmps")
    } else if (a) {
        HOST_STRING_BY_SIZE("repne cmps")
    } else if (is_equal) {
        HOST_STRING_BY_SIZE("repe scas")
    } else {
        HOST_STRING_BY_SIZE("repne scas")
    }
    s->v->aflags = (uint16_t)ax;
    return count - left;
}

static const uint8_t *readable(const struct string_op *s, uint64_t la, uint64_t bytes)
{
    const uint8_t *host = mmu_hit(s->v, TLB_READ, la, (unsigned)bytes);

    return host ? host : mmu_ptr_read(s->v, la, bytes);
}

static uint64_t cmps_chunk(const struct string_op *s, uint64_t count)
{
    uint64_t to = dest_la(s, false), from = source_la(s);
    uint64_t n = elements_in_page(to, s->size, elements_in_page(from, s->size, count));
    const uint8_t *a, *b;

    if (n < 2) {
        return 0;
    }
    b = readable(s, to, n * s->size);
    a = readable(s, from, n * s->size);
    if (!a || !b) {
        return 0;
    }
    n = compare_run(s, a, b, n);
    advance(s, GPR_RSI, n);
    advance(s, GPR_RDI, n);
    return n;
}

static uint64_t scas_chunk(const struct string_op *s, uint64_t count)
{
    uint64_t to = dest_la(s, false), n = elements_in_page(to, s->size, count);
    const uint8_t *b = n < 2 ? NULL : readable(s, to, n * s->size);

    if (!b) {
        return 0;
    }
    n = compare_run(s, NULL, b, n);
    advance(s, GPR_RDI, n);
    return n;
}

static uint64_t cmps(const struct string_op *s, uint64_t count)
{
    uint64_t n = count > 1 && can_chunk(s) ? cmps_chunk(s, count) : 0, a, b;

    if (n > 0) {
        return n;
    }
    /* rDI first, as the host has it when both fault */
    b = read_element(s->v, dest_la(s, false), s->size);
    a = read_element(s->v, source_la(s), s->size);
    compare(s->v, a, b, s->size);
    advance(s, GPR_RSI, 1);
    advance(s, GPR_RDI, 1);
    return 1;
}

static uint64_t scas(const struct string_op *s, uint64_t count)
{
    uint64_t n = count > 1 && can_chunk(s) ? scas_chunk(s, count) : 0;

    if (n == 0) {
        uint64_t b = read_element(s->v, dest_la(s, false), s->size);

        compare(s->v, s->v->gpr[GPR_RAX], b, s->size);
        advance(s, GPR_RDI, 1);
        n = 1;
    }
    return n;
}

/* --- port I/O: the destination is checked before the port is read --- */

static uint64_t ins(const struct string_op *s, uint64_t count __attribute__((unused)))
{
    uint16_t port = (uint16_t)s->v->gpr[GPR_RDX];
    uint64_t to, value = 0;

    sys_io_check(s->v, port, s->size);
    to = dest_la(s, true);
    mmu_check_write(s->v, to, s->size);
    s->v->stats.pio++;
    s->v->platform->pio(s->v, port, &value, s->size, false);
    write_element(s->v, to, value, s->size);
    advance(s, GPR_RDI, 1);
    return 1;
}

static uint64_t outs(const struct string_op *s, uint64_t count __attribute__((unused)))
{
    uint16_t port = (uint16_t)s->v->gpr[GPR_RDX];
    uint64_t value;

    sys_io_check(s->v, port, s->size);
    value = read_element(s->v, source_la(s), s->size);
    s->v->stats.pio++;
    s->v->platform->pio(s->v, port, &value, s->size, true);
    advance(s, GPR_RSI, 1);
    return 1;
}

/* --- repetition --- */

typedef uint64_t (*element_fn)(const struct string_op *s, uint64_t count);

static element_fn pick(const struct insn *insn)
{
    switch (insn->op) {
    case INSN_MOVS: return movs;
    case INSN_STOS: return stos;
    case INSN_LODS: return lods;
    case INSN_CMPS: return cmps;
    case INSN_SCAS: return scas;
    case INSN_INS: return ins;
    case INSN_OUTS: return outs;
    default: return NULL;
    }
}

/* REPE and REPNE stop on ZF, for the two comparing ones only. */
static bool is_stopped(const struct string_op *s)
{
    bool zf = s->v->aflags & AF_ZF;

    return (s->insn->op == INSN_CMPS || s->insn->op == INSN_SCAS) && zf != (s->insn->rep == 0xf3);
}

static enum ref_result repeat(const struct string_op *s, element_fn fn)
{
    bool is_stepping = vcpu_has_flag(s->v, FLAG_TF);
    uint64_t left = get_reg(s, GPR_RCX), since_poll = 0;

    if (left == 0) {
        if (s->mask == UINT32_MAX) {
            set_reg(s, GPR_RCX, 0);
        }
        return REF_NEXT;
    }
    for (;;) {
        uint64_t n = fn(s, is_stepping ? 1 : left);

        left -= n;
        set_reg(s, GPR_RCX, left);
        if (left == 0 || is_stopped(s)) {
            return REF_NEXT;
        }
        since_poll += n * s->size;
        if (is_stepping || s->v->code_hit || (since_poll >= ELEMENTS_PER_POLL && vcpu_poll(s->v))) {
            return REF_JUMP; /* once more from here */
        }
    }
}

static enum ref_result string_insn(struct vcpu *v, const struct insn *insn)
{
    struct string_op s = string_begin(v, insn);
    element_fn fn = pick(insn);

    if (insn->rep) {
        return repeat(&s, fn);
    }
    (void)fn(&s, 1);
    return REF_NEXT;
}

bool lower_string(struct lower *lw, const struct insn *insn)
{
    if (!pick(insn)) {
        return false;
    }
    lower_call(lw, insn, string_insn);
    return true;
}
