/* ioapic_test.c — inputs, redirection, remote IRR, MSIs. */
#include <errno.h>

#include "base/bits.h"
#include "hv/soft/intc/ioapic.h"
#include "hv/soft/intc/lapic.h"
#include "tests/lib/test.h"

struct sink {
    struct apic_message last;
    unsigned count;
};

static void keep(void *owner, const struct apic_message *message)
{
    struct sink *sink = owner;

    sink->last = *message;
    sink->count++;
}

static void set_reg(struct ioapic *io, uint32_t reg, uint32_t value)
{
    ioapic_write(io, IOAPIC_REG_SELECT, reg);
    ioapic_write(io, IOAPIC_REG_WINDOW, value);
}

static uint32_t get_reg(struct ioapic *io, uint32_t reg)
{
    ioapic_write(io, IOAPIC_REG_SELECT, reg);
    return ioapic_read(io, IOAPIC_REG_WINDOW);
}

TEST(ioapic, registers)
{
    struct ioapic io;
    struct sink sink = {0};

    ioapic_init(&io, keep, &sink);
    CHECK_INT(get_reg(&io, IOAPIC_VERSION), 0x170011);
    CHECK_INT(ioapic_read(&io, IOAPIC_REG_SELECT), IOAPIC_VERSION);
    set_reg(&io, IOAPIC_ID, 0xffffffff);
    CHECK_INT(get_reg(&io, IOAPIC_ID), 0x0f000000);
    CHECK_INT(get_reg(&io, IOAPIC_REDIR + 46), IOAPIC_MASKED);
    set_reg(&io, IOAPIC_REDIR + 46, 0xffffffff);
    CHECK_INT(get_reg(&io, IOAPIC_REDIR + 46), 0x1afff); /* status bits are read-only */
    set_reg(&io, IOAPIC_REDIR + 47, 0xffffffff);
    CHECK_INT(get_reg(&io, IOAPIC_REDIR + 47), 0xff000000);
    set_reg(&io, IOAPIC_REDIR + 48, 0xffffffff); /* beyond the last pin */
    CHECK_INT(get_reg(&io, IOAPIC_REDIR + 48), 0);
    CHECK_INT(get_reg(&io, 0xff), 0);
    CHECK_INT(ioapic_read(&io, 0x40), 0);
    ioapic_write(&io, 0x40, 0);
    CHECK_INT(sink.count, 0);
}

TEST(ioapic, edge_input_sends_at_each_rise)
{
    struct ioapic io;
    struct sink sink = {0};

    ioapic_init(&io, keep, &sink);
    ioapic_line(&io, 5, true); /* masked: lost */
    ioapic_line(&io, 5, false);
    set_reg(&io, IOAPIC_REDIR + 11, 0x03000000);
    set_reg(&io, IOAPIC_REDIR + 10, 0x833);
    CHECK_INT(sink.count, 0);
    ioapic_line(&io, 5, true);
    CHECK_INT(sink.count, 1);
    CHECK_INT(sink.last.vector, 0x33);
    CHECK_INT(sink.last.dest, 3);
    CHECK(sink.last.is_logical);
    CHECK(!sink.last.is_level);
    ioapic_line(&io, 5, true); /* still high */
    CHECK_INT(sink.count, 1);
    ioapic_line(&io, 5, false);
    ioapic_line(&io, 5, true);
    CHECK_INT(sink.count, 2);
    ioapic_eoi(&io, 0x33); /* means nothing to an edge */
    CHECK_INT(sink.count, 2);
}

TEST(ioapic, level_input_sends_again_after_eoi_while_high)
{
    struct ioapic io;
    struct sink sink = {0};

    ioapic_init(&io, keep, &sink);
    set_reg(&io, IOAPIC_REDIR + 2, IOAPIC_LEVEL | 0x41);
    ioapic_line(&io, 1, true);
    CHECK_INT(sink.count, 1);
    CHECK(sink.last.is_level);
    CHECK(get_reg(&io, IOAPIC_REDIR + 2) & IOAPIC_REMOTE_IRR);
    ioapic_line(&io, 1, false);
    ioapic_line(&io, 1, true); /* in service: not again */
    CHECK_INT(sink.count, 1);
    ioapic_eoi(&io, 0x42); /* another's */
    CHECK_INT(sink.count, 1);
    ioapic_eoi(&io, 0x41);
    CHECK_INT(sink.count, 2);
    ioapic_line(&io, 1, false);
    ioapic_eoi(&io, 0x41);
    CHECK_INT(sink.count, 2);
    CHECK(!(get_reg(&io, IOAPIC_REDIR + 2) & IOAPIC_REMOTE_IRR));
}

TEST(ioapic, level_input_waits_behind_its_mask)
{
    struct ioapic io;
    struct sink sink = {0};

    ioapic_init(&io, keep, &sink);
    set_reg(&io, IOAPIC_REDIR + 2, IOAPIC_LEVEL | IOAPIC_MASKED | 0x41);
    ioapic_line(&io, 1, true);
    CHECK_INT(sink.count, 0);
    set_reg(&io, IOAPIC_REDIR + 2, IOAPIC_LEVEL | 0x41);
    CHECK_INT(sink.count, 1);
    /* Linux's way to end an interrupt: edge and back clears remote IRR */
    set_reg(&io, IOAPIC_REDIR + 2, IOAPIC_MASKED | 0x41);
    CHECK(!(get_reg(&io, IOAPIC_REDIR + 2) & IOAPIC_REMOTE_IRR));
    set_reg(&io, IOAPIC_REDIR + 2, IOAPIC_LEVEL | 0x41);
    CHECK_INT(sink.count, 2);
}

static int write_nowhere(void *owner, uint64_t gpa, const void *data, unsigned len)
{
    (void)owner, (void)gpa, (void)data, (void)len;
    return 0;
}

TEST(intc, lines_pulses_and_messages_reach_the_local_apic)
{
    struct intc intc;
    struct lapic l;
    _Atomic uint32_t poll = 0;
    struct err err = {0};
    uint32_t v;

    CHECK_OK(intc_init(&intc, write_nowhere, NULL, NULL, &err), &err);
    lapic_init(&l, &intc, 0, &poll);
    v = 0x1ff;
    lapic_mmio_write(&l, APIC_SVR, &v, 4);
    v = IOAPIC_REDIR + 8;
    intc_ioapic_write(&intc, IOAPIC_REG_SELECT, &v, 4);
    v = IOAPIC_LEVEL | 0x61;
    intc_ioapic_write(&intc, IOAPIC_REG_WINDOW, &v, 4);
    intc_ioapic_read(&intc, IOAPIC_REG_WINDOW, &v, 4);
    CHECK_INT(v, IOAPIC_LEVEL | 0x61);
    intc_line(&intc, 4, true);
    CHECK_INT(lapic_take(&l), 0x61);
    v = 0;
    lapic_mmio_write(&l, APIC_EOI, &v, 4); /* broadcast: the line is still high */
    CHECK_INT(lapic_take(&l), 0x61);
    intc_line(&intc, 4, false);
    lapic_mmio_write(&l, APIC_EOI, &v, 4);
    CHECK_INT(lapic_take(&l), -1);
    intc_pulse(&intc, 4);
    CHECK_INT(lapic_take(&l), 0x61);
    lapic_mmio_write(&l, APIC_EOI, &v, 4);

    CHECK_INT(intc_msi(&intc, 0xfee00000, 0x0071), 0);
    CHECK_INT(lapic_take(&l), 0x71);
    lapic_mmio_write(&l, APIC_EOI, &v, 4);
    CHECK_INT(intc_msi(&intc, 0xfee01000, 0x0071), 0); /* another CPU */
    CHECK_INT(lapic_take(&l), -1);
    CHECK_INT(intc_msi(&intc, 0xfed00000, 0x0071), -EINVAL);
    CHECK_INT(intc_msi(&intc, UINT64_C(0x1fee00000), 0x0071), -EINVAL);
    intc_fini(&intc);
}
