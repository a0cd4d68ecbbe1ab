/* source_test.c — the readable form, and what is wrong with some of it; files of filters. */
#include <errno.h>
#include <linux/audit.h>
#include <stdlib.h>
#include <sys/syscall.h>

#include "base/bits.h"
#include "seccomp/bpf_vm.h"
#include "seccomp/source.h"
#include "tests/lib/test.h"

static const struct seccomp_source_options g_options = {.arch = "x86_64"};

static int compile(const char *text, const struct seccomp_source_options *options,
                   struct seccomp_container *ret_container, struct err *err)
{
    return seccomp_source_compile(text, strlen(text), options, ret_container, err);
}

static uint32_t answer(const struct seccomp_program *program, uint32_t arch, int nr, uint64_t arg1)
{
    struct seccomp_data data = {.nr = nr, .arch = arch, .args[1] = arg1};
    uint32_t action = 0;

    CHECK(bpf_vm_run(program->code, program->len, &data, &action));
    return action;
}

static const char g_good[] =
    "{\"vmm\": {\"default_action\": {\"errno\": 38}, \"filter_action\": \"allow\", \"filter\": ["
    "  {\"syscall\": \"read\", \"comment\": \"c\"},"
    "  {\"syscall\": \"ioctl\", \"args\": [{\"index\": 1, \"type\": \"dword\", \"op\": \"eq\","
    "    \"val\": 18446744073709551615, \"comment\": \"-1\"}]},"
    "  {\"syscall\": \"ioctl\", \"args\": [{\"index\": 1, \"type\": \"qword\","
    "    \"op\": {\"masked_eq\": 240}, \"val\": 16}]},"
    "  {\"syscall\": \"openat\", \"args\": null}]},"
    " \"Any Name\": {\"default_action\": \"allow\", \"filter_action\": \"log\", \"filter\": []}}";

TEST(seccomp_source, filters_are_compiled)
{
    static struct seccomp_container c;
    const struct seccomp_program *vmm = &c.filters[0].program;
    const uint32_t arch = AUDIT_ARCH_X86_64, no = SECCOMP_RET_ERRNO | 38;
    struct err err = {0};

    CHECK_OK(compile(g_good, &g_options, &c, &err), &err);
    CHECK_INT(c.count, 2);
    CHECK_STR(c.filters[0].name, "vmm");
    CHECK_INT(answer(vmm, arch, SYS_read, 5), SECCOMP_RET_ALLOW);
    CHECK_INT(answer(vmm, arch, SYS_openat, 5), SECCOMP_RET_ALLOW);
    CHECK_INT(answer(vmm, arch, SYS_write, 5), no);
    CHECK_INT(answer(vmm, arch, SYS_ioctl, 0xffffffff), SECCOMP_RET_ALLOW);
    CHECK_INT(answer(vmm, arch, SYS_ioctl, 0xabcd1), no);
    CHECK_INT(answer(vmm, arch, SYS_ioctl, 0xabc1d), SECCOMP_RET_ALLOW);
    CHECK_STR(c.filters[1].name, "Any Name");
    CHECK_INT(answer(&c.filters[1].program, arch, SYS_reboot, 0), SECCOMP_RET_ALLOW);
    seccomp_container_fini(&c);
}

TEST(seccomp_source, basic_filters_look_at_no_argument)
{
    const struct seccomp_source_options options = {.arch = "x86_64", .is_basic = true};
    struct seccomp_container c;
    struct err err = {0};

    CHECK_OK(compile(g_good, &options, &c, &err), &err);
    CHECK_INT(answer(&c.filters[0].program, AUDIT_ARCH_X86_64, SYS_ioctl, 7), SECCOMP_RET_ALLOW);
    seccomp_container_fini(&c);
}

TEST(seccomp_source, numbers_are_those_of_the_architecture)
{
    const struct seccomp_source_options options = {.arch = "aarch64"};
    struct seccomp_container c;
    struct err err = {0};

    CHECK_OK(compile(g_good, &options, &c, &err), &err);
    CHECK_INT(answer(&c.filters[0].program, AUDIT_ARCH_AARCH64, 63, 7), SECCOMP_RET_ALLOW);
    CHECK_INT(answer(&c.filters[0].program, AUDIT_ARCH_X86_64, SYS_read, 7),
              SECCOMP_RET_KILL_PROCESS);
    seccomp_container_fini(&c);
}

#define FILTER(rules)                                                                            \
    "{\"vmm\": {\"default_action\": \"trap\", \"filter_action\": \"allow\", \"filter\": [" rules \
    "]}}"
#define ARG(index, type, op, val)                                                      \
    FILTER("{\"syscall\": \"read\", \"args\": [{\"index\": " index ", \"type\": " type \
           ", \"op\": " op ", \"val\": " val "}]}")

TEST(seccomp_source, what_is_wrong_is_told)
{
    static const struct {
        const char *text, *error;
    } bad[] = {
        {"", "expected a JSON object"},
        {"[]", "expected a JSON object at line 1 column 1"},
        {"{\"vmm\": 1}", "thread 'vmm': invalid type"},
        {"{\"vmm\": {}}", "thread 'vmm': missing field `default_action`"},
        {"{\"\": {}}", "a name has 1 to 64 bytes"},
        {FILTER("") " x", "trailing characters"},
        {FILTER("{\"syscall\": \"raed\"}"), "rule 0, 'raed': no such system call on x86_64"},
        {FILTER("{\"syscall\": \"socketcall\"}"), "no such system call on x86_64"}, /* i386 */
        {FILTER("{\"syscall\": \"read\", \"arg\": []}"), "unknown field `arg`"},
        {FILTER("{\"args\": []}"), "missing field `syscall`"},
        {ARG("6", "\"dword\"", "\"eq\"", "1"), "argument 0: index 6: must be 0 to 5"},
        {ARG("1", "\"word\"", "\"eq\"", "1"),
         "unknown variant `word`, expected `dword` or `qword`"},
        {ARG("1", "\"dword\"", "\"is\"", "1"), "op \"is\": must be \"eq\""},
        {ARG("1", "\"dword\"", "{\"masked\": 1}", "1"), "must be \"eq\""},
        {ARG("1", "\"dword\"", "\"eq\"", "-1"), "integer `-1`, expected u64"},
        {"{\"vmm\": {\"default_action\": \"kill\", \"filter_action\": \"allow\", \"filter\": []}}",
         "action \"kill\": must be \"allow\""},
        {"{\"vmm\": {\"default_action\": {\"errno\": 65536}, \"filter_action\": \"allow\", "
         "\"filter\": []}}",
         "up to 65535"},
        {"{\"vmm\": {\"default_action\": {}, \"filter_action\": \"allow\", \"filter\": []}}",
         "must be \"allow\""},
        {"{\"vmm\": {\"default_action\": \"allow\", \"filter_action\": \"allow\", \"filter\": []}}",
         "default_action and filter_action are the same"},
        {"{\"a\": {\"default_action\": \"trap\", \"filter_action\": \"allow\", \"filter\": []},"
         " \"a\": {\"default_action\": \"trap\", \"filter_action\": \"allow\", \"filter\": []}}",
         "thread 'a' is there twice"},
    };

    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        struct seccomp_container c;
        struct err err = {0};

        CHECK_INT(compile(bad[i].text, &g_options, &c, &err), -EINVAL);
        CHECK_HAS(err_text(&err), bad[i].error);
        CHECK_INT(c.count, 0);
    }
}

TEST(seccomp_source, an_unknown_architecture_is_refused)
{
    const struct seccomp_source_options options = {.arch = "riscv64"};
    struct seccomp_container c;
    struct err err = {0};

    CHECK_INT(compile(g_good, &options, &c, &err), -EINVAL);
    CHECK_HAS(err_text(&err), "architecture 'riscv64': must be x86_64 or aarch64");
}

/* --- files --- */

static void write_good(struct buf *file)
{
    struct seccomp_container c;
    struct err err = {0};

    CHECK_OK(compile(g_good, &g_options, &c, &err), &err);
    seccomp_container_write(&c, file);
    CHECK_INT(buf_status(file), 0);
    seccomp_container_fini(&c);
}

TEST(seccomp_container, what_was_written_is_read)
{
    struct buf file = {0}, again = {0};
    struct seccomp_container c;
    struct err err = {0};

    write_good(&file);
    CHECK_OK(seccomp_container_read(file.data, file.len, &c, &err), &err);
    CHECK_INT(c.count, 2);
    seccomp_container_write(&c, &again);
    CHECK_INT(again.len, file.len);
    CHECK_MEM(again.data, file.data, file.len);
    seccomp_container_fini(&c);
    buf_fini(&file);
    buf_fini(&again);
}

TEST(seccomp_container, no_prefix_and_no_flipped_bit_is_read)
{
    struct buf file = {0};
    struct seccomp_container c;
    struct err err = {0};

    write_good(&file);
    for (size_t len = 0; len < file.len; len++) {
        CHECK_INT(seccomp_container_read(file.data, len, &c, &err), -EINVAL);
    }
    for (size_t bit = 0; bit < 8 * file.len; bit++) {
        file.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK_INT(seccomp_container_read(file.data, file.len, &c, &err), -EINVAL);
        file.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    buf_fini(&file);
}
