/* session_test.c — what a scripted gdb asks, and what happens to the target. */
#include "base/buf.h"
#include "gdb/fake_target.h"
#include "gdb/packet.h"
#include "gdb/regs.h"
#include "gdb/session.h"
#include "x86/msr.h"

#define REPLY_MAX 65536

struct talk {
    struct fake_target fake;
    struct gdb_session *session;
    char reply[REPLY_MAX];
};

static struct talk g_talk; /* too large for a frame */

static struct talk *begin(void)
{
    struct talk *t = &g_talk;

    fake_init(&t->fake);
    t->session = gdb_session_new(&t->fake.target);
    CHECK(t->session != NULL);
    gdb_session_input(t->session, "+$QStartNoAckMode#b0", 20);
    CHECK_STR(buf_str(gdb_session_output(t->session)), "+$OK#9a");
    buf_clear(gdb_session_output(t->session));
    return t;
}

static void end(struct talk *t)
{
    gdb_session_free(t->session, false);
    fake_fini(&t->fake);
}

/* The text of the packet that was answered with; "" if there was none. */
static const char *reply(struct talk *t)
{
    static struct gdb_reader reader;
    struct buf *out = gdb_session_output(t->session);
    enum gdb_input got = GDB_INPUT_MORE;

    memset(&reader, 0, sizeof(reader));
    for (size_t i = 0; i < out->len; i++) {
        CHECK(got != GDB_INPUT_PACKET); /* one at most */
        got = gdb_read_byte(&reader, out->data[i]);
    }
    CHECK(out->len == 0 || got == GDB_INPUT_PACKET);
    memcpy(t->reply, reader.data, reader.len);
    t->reply[reader.len] = 0;
    buf_clear(out);
    return t->reply;
}

static const char *ask_bytes(struct talk *t, const void *data, size_t len)
{
    struct buf packet = {0};
    uint8_t sum = 0;

    for (size_t i = 0; i < len; i++) {
        sum = (uint8_t)(sum + ((const uint8_t *)data)[i]);
    }
    buf_append_str(&packet, "$");
    buf_append(&packet, data, len);
    buf_printf(&packet, "#%02x", sum);
    gdb_session_input(t->session, packet.data, packet.len);
    buf_fini(&packet);
    return reply(t);
}

static const char *ask(struct talk *t, const char *text)
{
    return ask_bytes(t, text, strlen(text));
}

static const char *stopped(struct talk *t, unsigned cpu, enum hv_stop_why why,
                           enum hv_break_kind kind, uint64_t la)
{
    t->fake.stop[cpu] = (struct hv_stop){.why = why, .at = {.kind = kind, .la = la}};
    gdb_session_stopped(t->session);
    return reply(t);
}

TEST(gdb, what_nobody_knows_has_an_empty_answer)
{
    struct talk *t = begin();

    CHECK_STR(ask(t, "vMustReplyEmpty"), "");
    CHECK_STR(ask(t, ""), "");
    CHECK_STR(ask(t, "qTStatus"), "");
    CHECK_HAS(ask(t, "qSupported:swbreak+;hwbreak+"), "PacketSize=4000;");
    CHECK_STR(ask(t, "vCont?"), "vCont;c;C;s;S;r");
    CHECK_STR(ask(t, "qAttached"), "1");
    CHECK_STR(ask(t, "?"), "T05thread:1;");
    end(t);
}

TEST(gdb, every_cpu_is_a_thread)
{
    struct talk *t = begin();

    CHECK_STR(ask(t, "qfThreadInfo"), "m1,2,3");
    CHECK_STR(ask(t, "qsThreadInfo"), "l");
    CHECK_STR(ask(t, "qC"), "QC1");
    CHECK_STR(ask(t, "T3"), "OK");
    CHECK_STR(ask(t, "T4"), "E16");
    CHECK_STR(ask(t, "Hg2"), "OK");
    CHECK_STR(ask(t, "Hgp1.3"), "OK");
    CHECK_STR(ask(t, "Hg9"), "E16");
    CHECK_STR(ask(t, "H"), "E16");
    CHECK_STR(ask(t, "Hc-1"), "OK");
    CHECK_STR(ask(t, "qC"), "QC3");
    CHECK_STR(ask(t, "qThreadExtraInfo,2"), "43505520312c2072756e6e696e67");
    CHECK_STR(ask(t, "qThreadExtraInfo,-1"), "E16");
    end(t);
}

/* RIP of the chosen CPU. */
TEST(gdb, registers_are_read_and_written)
{
    struct talk *t = begin();
    size_t digits = 0;

    for (unsigned i = 0; i < gdb_reg_count(); i++) {
        digits += gdb_reg_bytes(i) * 2;
    }
    CHECK_INT(strlen(ask(t, "g")), digits);
    CHECK_STR(ask(t, "p10"), "0010000000000000");
    CHECK_STR(ask(t, "Hg2"), "OK");
    CHECK_STR(ask(t, "p10"), "0020000000000000");
    CHECK_STR(ask(t, "P10=efcdab8967452301"), "OK");
    CHECK_INT(t->fake.cpu[1].rip, 0x0123456789abcdef);
    CHECK_STR(ask(t, "p10"), "efcdab8967452301");
    CHECK_STR(ask(t, "P10=efcdab896745230"), "E16");
    CHECK_STR(ask(t, "P10=efcdab896745230x"), "E16");
    CHECK_STR(ask(t, "Pffff=00"), "E16");
    CHECK_STR(ask(t, "pffffffffffffffff"), "E16");
    CHECK_STR(ask(t, "p11111111111111111"), "E16");
    CHECK_STR(ask(t, "G00"), "E16");
    t->fake.regs_error = -EINVAL;
    CHECK_STR(ask(t, "P0=0000000000000000"), "E16");
    CHECK_STR(ask(t, "g"), "E05");
    end(t);
}

TEST(gdb, all_registers_come_back_as_they_were_written)
{
    struct talk *t = begin();
    static char set[REPLY_MAX];

    t->fake.cpu[0].msr_count = 1;
    t->fake.cpu[0].msr[0].index = MSR_KERNEL_GS_BASE;
    for (size_t i = 0; i < 832; i++) {
        t->fake.cpu[0].xsave[i] = (uint8_t)(i * 7);
    }
    t->fake.cpu[0].xsave[512] = 7; /* all in use */
    (void)snprintf(set, sizeof(set), "G%s", ask(t, "g"));
    for (size_t i = 1; set[i]; i += 2) {
        if (set[i] == '0') {
            set[i] = '1'; /* something else */
        }
    }
    CHECK_STR(ask(t, set), "OK");
    CHECK_INT(t->fake.sets, 1);
    CHECK_STR(ask(t, "P0=8877665544332211"), "OK");
    CHECK_INT(t->fake.cpu[0].gpr[GPR_RAX], 0x1122334455667788);
    (void)snprintf(set, sizeof(set), "G%s", ask(t, "g"));
    CHECK_STR(ask(t, set), "OK");
    CHECK_STR(ask(t, "g"), set + 1);
    end(t);
}

TEST(gdb, memory_is_read_and_written)
{
    struct talk *t = begin();
    static const uint8_t binary[] = "X200,3:a}\x03"
                                    "b";
    char text[4];

    CHECK_STR(ask(t, "M100,4:01020304"), "OK");
    CHECK_STR(ask(t, "m101,2"), "0203");
    CHECK_STR(ask(t, "m0,0"), "");
    CHECK_STR(ask_bytes(t, binary, sizeof(binary) - 1), "OK");
    CHECK_INT(mem_read(t->fake.target.mem, GPA(0x200), text, 3), 0);
    CHECK_MEM(text, "a#b", 3);
    CHECK_STR(ask(t, "X300,0:"), "OK");
    CHECK_STR(ask(t, "m10000,4"), "E0e");
    CHECK_STR(ask(t, "mfffe,4"), "0000"); /* what there is */
    CHECK_STR(ask(t, "Mfffe,4:00000000"), "E0e");
    CHECK_STR(ask(t, "M0,4:0000"), "E16");
    CHECK_STR(ask(t, "M0,ffffffffffffffff:00"), "E16");
    CHECK_STR(ask(t, "X0,ffffffffffffffff:00"), "E16");
    CHECK_STR(ask(t, "mffffffffffffffff,ffffffffffffffff"), "E0e");
    CHECK_INT(strlen(ask(t, "m0,ffffffff")), GDB_PACKET_MAX);
    CHECK_STR(ask(t, "m,"), "E16");
    end(t);
}

TEST(gdb, breakpoints_reach_the_target_and_go_again)
{
    struct talk *t = begin();
    const struct hv_debug *debug = &t->fake.debug;

    CHECK_STR(ask(t, "Z0,1234,1"), "OK");
    CHECK_STR(ask(t, "Z0,1234,1"), "OK");
    CHECK_INT(debug->count, 1);
    CHECK_STR(ask(t, "Z1,1234,1"), "OK");
    CHECK_STR(ask(t, "Z2,2000,8"), "OK");
    CHECK_STR(ask(t, "Z3,2000,4"), "OK");
    CHECK_STR(ask(t, "Z4,ffffffff81000000,1"), "OK");
    CHECK_INT(debug->count, 5);
    CHECK_INT(debug->list[4].kind, HV_WATCH_ACCESS);
    CHECK_INT(debug->list[4].la, UINT64_C(0xffffffff81000000));
    CHECK_STR(ask(t, "z0,1234,1"), "OK");
    CHECK_STR(ask(t, "z0,1234,1"), "OK");
    CHECK_INT(debug->count, 4);
    CHECK_STR(ask(t, "Z5,0,1"), "E16");
    CHECK_STR(ask(t, "Z2,0,0"), "E16");
    CHECK_STR(ask(t, "Z2,0,1001"), "E16");
    CHECK_STR(ask(t, "Z0,0"), "E16");
    t->fake.breaks_max = 4;
    CHECK_STR(ask(t, "Z0,0,1"), "E1c");
    CHECK_STR(ask(t, "z2,2000,8"), "OK");
    CHECK_STR(ask(t, "Z0,0,1"), "OK");
    end(t);
}

TEST(gdb, threads_go_on_as_they_are_told)
{
    struct talk *t = begin();
    const enum gdb_action *actions = t->fake.actions;

    CHECK_STR(ask(t, "vCont;s:2;c"), "");
    CHECK(t->fake.is_running);
    CHECK_INT(actions[0], GDB_RUN);
    CHECK_INT(actions[1], GDB_STEP);
    CHECK_INT(actions[2], GDB_RUN);
    CHECK_STR(ask(t, "g"), "E10"); /* it runs */
    CHECK_STR(stopped(t, 1, HV_STOP_STEP, 0, 0), "T05thread:2;");
    CHECK_STR(ask(t, "qC"), "QC2");
    CHECK_STR(ask(t, "vCont;c:p1.3"), "");
    CHECK_INT(actions[0], GDB_HOLD);
    CHECK_INT(actions[1], GDB_HOLD);
    CHECK_INT(actions[2], GDB_RUN);
    CHECK_STR(stopped(t, 2, HV_STOP_BREAK, HV_BREAK_SOFT, 0), "T05thread:3;");
    CHECK_STR(ask(t, "s"), "");
    CHECK_INT(actions[0], GDB_HOLD);
    CHECK_INT(actions[2], GDB_STEP);
    CHECK_STR(stopped(t, 2, HV_STOP_STEP, 0, 0), "T05thread:3;");
    CHECK_STR(ask(t, "C05"), "");
    CHECK_INT(actions[0], GDB_RUN);
    CHECK_STR(stopped(t, 0, HV_STOP_STEP, 0, 0), "T05thread:1;");
    for (unsigned i = 0; i < 4; i++) {
        static const char *const bad[] = {"vCont;x", "vCont;c:9", "vCont;", "vCont;r1"};

        CHECK_STR(ask(t, bad[i]), "E16");
    }
    t->fake.resume_error = -EIO;
    CHECK_STR(ask(t, "c"), "E05");
    t->fake.resume_error = 0;
    end(t);
}

TEST(gdb, a_stop_says_why)
{
    struct talk *t = begin();

    (void)ask(t, "qSupported:swbreak+;hwbreak+");
    (void)ask(t, "c");
    CHECK_STR(stopped(t, 0, HV_STOP_BREAK, HV_BREAK_SOFT, 0), "T05thread:1;swbreak:;");
    (void)ask(t, "c");
    CHECK_STR(stopped(t, 0, HV_STOP_BREAK, HV_BREAK_HARD, 0), "T05thread:1;hwbreak:;");
    (void)ask(t, "c");
    CHECK_STR(stopped(t, 1, HV_STOP_WATCH, HV_WATCH_WRITE, 0xabc), "T05thread:2;watch:abc;");
    (void)ask(t, "c");
    CHECK_STR(stopped(t, 1, HV_STOP_WATCH, HV_WATCH_READ, 0xabc), "T05thread:2;rwatch:abc;");
    (void)ask(t, "c");
    CHECK_STR(stopped(t, 1, HV_STOP_WATCH, HV_WATCH_ACCESS, 0xabc), "T05thread:2;awatch:abc;");
    (void)ask(t, "c");
    gdb_session_input(t->session, "\x03", 1);
    CHECK_STR(reply(t), "T02thread:2;");
    gdb_session_input(t->session, "\x03", 1); /* it stands still */
    CHECK_STR(reply(t), "");
    end(t);
}

TEST(gdb, steps_go_on_within_a_range)
{
    struct talk *t = begin();

    CHECK_STR(ask(t, "vCont;r1000,1010:1"), "");
    t->fake.cpu[0].rip = 0x100f;
    CHECK_STR(stopped(t, 0, HV_STOP_STEP, 0, 0), "");
    CHECK(t->fake.is_running);
    CHECK_INT(t->fake.actions[0], GDB_STEP);
    t->fake.cpu[0].rip = 0x1010;
    CHECK_STR(stopped(t, 0, HV_STOP_STEP, 0, 0), "T05thread:1;");
    CHECK_STR(ask(t, "vCont;s:1"), "");
    t->fake.cpu[0].rip = 0x1000;
    CHECK_STR(stopped(t, 0, HV_STOP_STEP, 0, 0), "T05thread:1;");
    end(t);
}

TEST(gdb, the_guest_goes_on_when_gdb_leaves)
{
    struct talk *t = begin();

    (void)ask(t, "Z0,1234,1");
    CHECK_STR(ask(t, "D"), "OK");
    CHECK(gdb_session_is_over(t->session));
    CHECK(t->fake.is_running);
    CHECK_INT(t->fake.debug.count, 0);
    end(t);
    CHECK_INT(t->fake.resumes, 1);

    t = begin(); /* gone without a word, stopped */
    (void)ask(t, "Z0,1234,1");
    end(t);
    CHECK(t->fake.is_running);
    CHECK_INT(t->fake.debug.count, 0);

    t = begin(); /* and while it runs */
    (void)ask(t, "Z0,1234,1");
    (void)ask(t, "c");
    end(t);
    CHECK(t->fake.is_running);
    CHECK_INT(t->fake.debug.count, 0);
}

TEST(gdb, a_peer_that_was_no_gdb_changes_nothing)
{
    struct talk *t = &g_talk;

    fake_init(&t->fake);
    t->session = gdb_session_new(&t->fake.target);
    gdb_session_input(t->session, "GET /", 5);
    CHECK(gdb_session_is_over(t->session));
    CHECK(!gdb_session_has_talked(t->session));
    gdb_session_free(t->session, true);
    CHECK_INT(t->fake.resumes, 0);
    fake_fini(&t->fake);
}

TEST(gdb, the_end_of_the_guest_is_told)
{
    struct talk *t = begin();

    (void)ask(t, "c");
    gdb_session_exited(t->session, 7);
    CHECK_STR(reply(t), "W07");
    CHECK(gdb_session_is_over(t->session));
    end(t);

    t = begin();
    CHECK_STR(ask(t, "vKill;1"), "OK");
    CHECK_INT(t->fake.kills, 1);
    end(t);
    CHECK_INT(t->fake.resumes, 0);

    t = begin(); /* Ctrl-C comes too late */
    (void)ask(t, "c");
    t->fake.has_ended = true;
    gdb_session_input(t->session, "\x03", 1);
    CHECK_STR(reply(t), "");
    end(t);
    CHECK_INT(t->fake.resumes, 1);
}

TEST(gdb, the_description_names_what_gdb_needs)
{
    struct talk *t = begin();
    const char *text = ask(t, "qXfer:features:read:target.xml:0,2000");
    struct buf all = {0};

    CHECK_INT(text[0], 'm');
    buf_append_str(&all, text + 1);
    while (text[0] == 'm') {
        char more[64];

        (void)snprintf(more, sizeof(more), "qXfer:features:read:target.xml:%zx,1000", all.len);
        text = ask(t, more);
        buf_append_str(&all, text + 1);
    }
    CHECK_HAS(buf_str(&all), "<architecture>i386:x86-64</architecture>");
    CHECK_HAS(buf_str(&all), "org.gnu.gdb.i386.segments");
    CHECK_HAS(buf_str(&all), "<reg name=\"k_gs_base\" bitsize=\"64\"");
    CHECK_HAS(buf_str(&all), "</feature></target>");
    CHECK_STR(ask(t, "qXfer:features:read:target.xml:ffffffff,10"), "l");
    CHECK_STR(ask(t, "qXfer:features:read:other.xml:0,10"), "E16");
    buf_fini(&all);
    end(t);
}

/* "help", "info version", "translate 1234", "no" */
TEST(gdb, monitor_has_a_few_commands)
{
    struct talk *t = begin();

    CHECK_HAS(ask(t, "qRcmd,68656c70"), "696e666f2076657273696f6e");
    CHECK_STR(ask(t, "qRcmd,696e666f2076657273696f6e"), "6563312c203320435055730a");
    CHECK_STR(ask(t, "qRcmd,7472616e736c6174652031323334"), "706879736963616c203078313233340a");
    CHECK_HAS(ask(t, "qRcmd,7472616e736c61746520"), "7768696368");
    CHECK_HAS(ask(t, "qRcmd,6e6f"), "6e6f2073756368");
    CHECK_STR(ask(t, "qRcmd,6"), "E16");
    CHECK_STR(ask(t, "qRcmd,zz"), "E16");
    end(t);
}

TEST(gdb, a_wrong_sum_is_asked_for_again)
{
    struct talk *t = &g_talk;

    fake_init(&t->fake);
    t->session = gdb_session_new(&t->fake.target);
    gdb_session_input(t->session, "+$?#00", 6);
    CHECK_STR(buf_str(gdb_session_output(t->session)), "-");
    buf_clear(gdb_session_output(t->session));
    gdb_session_input(t->session, "$?#3f", 5);
    CHECK_STR(buf_str(gdb_session_output(t->session)), "+$T05thread:1;#d7");
    buf_clear(gdb_session_output(t->session));
    gdb_session_input(t->session, "-", 1);
    CHECK_STR(buf_str(gdb_session_output(t->session)), "$T05thread:1;#d7");
    gdb_session_input(t->session, "GET /", 5);
    CHECK(gdb_session_is_over(t->session));
    end(t);
}

static uint32_t dice(uint32_t sides)
{
    static uint32_t state = 1;

    state = state * 1664525 + 1013904223;
    return (state >> 8) % sides;
}

/* Known commands with anything behind them. */
TEST(gdb, a_peer_that_sends_anything_does_no_harm)
{
    static const char names[][24] = {"g",
                                     "G",
                                     "p",
                                     "P",
                                     "m",
                                     "M",
                                     "X",
                                     "Z",
                                     "z",
                                     "c",
                                     "s",
                                     "D",
                                     "k",
                                     "H",
                                     "T",
                                     "vCont;",
                                     "qSupported",
                                     "qXfer:features:read:",
                                     "qThreadExtraInfo,",
                                     "qRcmd,",
                                     "?",
                                     "vKill;"};
    static const char letters[] = "0123456789abcdef,,;::=-p.scr}";
    struct talk *t = begin();

    for (unsigned i = 0; i < 20000; i++) {
        char text[96];
        size_t len = (size_t)snprintf(text, 24, "%s", names[dice(ARRAY_LEN(names))]);

        for (unsigned more = dice(40); more > 0; more--) {
            text[len++] = letters[dice(sizeof(letters) - 1)];
        }
        (void)ask_bytes(t, text, len);
        if (t->fake.is_running && !gdb_session_is_over(t->session)) {
            (void)stopped(t, dice(FAKE_CPUS), HV_STOP_STEP, 0, 0);
        }
        if (gdb_session_is_over(t->session)) {
            end(t);
            t = begin();
        }
    }
    end(t);
}
