/* session_int.h — what the files of the session share. */
#pragma once

#include "base/buf.h"
#include "gdb/packet.h"
#include "gdb/session.h"
#include "hv/cpu_state.h"
#include "hv/hv.h"

/* Two digits for each byte. */
#define GDB_BYTES_MAX (GDB_PACKET_MAX / 2)

struct gdb_session {
    const struct gdb_target *target;
    struct gdb_reader reader;
    struct buf out;
    struct buf reply;
    struct buf sent; /* the last packet, in case it has to be sent again */
    bool has_no_acks;
    bool tells_swbreak, tells_hwbreak; /* gdb knows these words in a stop reply */
    bool has_talked;
    bool is_running;
    bool is_over;
    bool has_ended;   /* the guest */
    bool is_detached; /* it runs, and is to */
    unsigned cpu;     /* whose registers and memory gdb means */
    unsigned run_cpu; /* which one the packets 'c' and 's' mean; cpu_count: all */
    struct hv_debug breaks;
    enum gdb_action actions[HV_VCPU_MAX]; /* of the last resume */
    struct {
        uint64_t first, end; /* steps go on in here; end 0: one step */
    } range;
    uint8_t data[GDB_BYTES_MAX]; /* of guest memory */
    uint8_t old[GDB_BYTES_MAX];
    unsigned state_cpu; /* whose registers are in `state`; HV_VCPU_MAX: nobody's */
    struct cpu_state state;
};

/* gdb's manual leaves the numbers of errors open; these are errno's. */
void gdb_reply_error(struct gdb_session *s, int error);
void gdb_reply_ok(struct gdb_session *s);
/* Registers of a CPU, kept until it runs; NULL: they cannot be had. */
struct cpu_state *gdb_state(struct gdb_session *s, unsigned cpu);
/* After a change of what gdb_state() gave. */
int gdb_state_write(struct gdb_session *s);
/* "1" is the first CPU, "-1" all of them (*ret_cpu: cpu_count), "0" any; also as "p1.2". */
bool gdb_parse_thread(struct gdb_session *s, const char **at, unsigned *ret_cpu);

/* A packet's handler: `args` is what follows the name, `len` bytes of it. */
typedef void (*gdb_command_fn)(struct gdb_session *s, char *args, size_t len);

/* cmd_regs.c */
void gdb_cmd_g(struct gdb_session *s, char *args, size_t len);
void gdb_cmd_G(struct gdb_session *s, char *args, size_t len);
void gdb_cmd_p(struct gdb_session *s, char *args, size_t len);
void gdb_cmd_P(struct gdb_session *s, char *args, size_t len);
/* cmd_memory.c */
void gdb_cmd_m(struct gdb_session *s, char *args, size_t len);
void gdb_cmd_M(struct gdb_session *s, char *args, size_t len);
void gdb_cmd_X(struct gdb_session *s, char *args, size_t len);
/* cmd_break.c */
void gdb_cmd_Z(struct gdb_session *s, char *args, size_t len);
void gdb_cmd_z(struct gdb_session *s, char *args, size_t len);
/* cmd_run.c */
void gdb_cmd_continue(struct gdb_session *s, char *args, size_t len);
void gdb_cmd_step(struct gdb_session *s, char *args, size_t len);
void gdb_cmd_vcont(struct gdb_session *s, char *args, size_t len);
void gdb_cmd_detach(struct gdb_session *s, char *args, size_t len);
void gdb_cmd_kill(struct gdb_session *s, char *args, size_t len);
void gdb_cmd_why(struct gdb_session *s, char *args, size_t len);
/* Ctrl-C. */
void gdb_interrupt(struct gdb_session *s);
/* cmd_query.c */
void gdb_cmd_supported(struct gdb_session *s, char *args, size_t len);
void gdb_cmd_features(struct gdb_session *s, char *args, size_t len);
void gdb_cmd_threads(struct gdb_session *s, char *args, size_t len);
void gdb_cmd_thread_info(struct gdb_session *s, char *args, size_t len);
void gdb_cmd_thread_now(struct gdb_session *s, char *args, size_t len);
void gdb_cmd_thread_alive(struct gdb_session *s, char *args, size_t len);
void gdb_cmd_thread_choose(struct gdb_session *s, char *args, size_t len);
/* monitor.c: `monitor` of gdb's prompt. */
void gdb_cmd_monitor(struct gdb_session *s, char *args, size_t len);
