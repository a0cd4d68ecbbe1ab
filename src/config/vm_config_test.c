/* vm_config_test.c — what cannot be built is refused with field, value and what is allowed. */
#include <errno.h>

#include "config/vm_config.h"
#include "tests/lib/test.h"

static struct vm_config good(void)
{
    return (struct vm_config){.vcpu_count = 1, .mem_bytes = 256 * MIB, .kernel = "vmlinux"};
}

TEST(config, a_good_configuration_passes)
{
    struct vm_config c = good();
    struct err err = {0};

    CHECK_OK(config_check(&c, &err), &err);
}

TEST(config, bad_values_are_named)
{
    struct err err = {0};
    struct vm_config c = good();

    c.vcpu_count = 33;
    CHECK_INT(config_check(&c, &err), -ERANGE);
    CHECK_STR(err.text, "vcpu count 33: must be 1 to 32");
    c = good();
    c.mem_bytes = MIB;
    CHECK_INT(config_check(&c, &err), -ERANGE);
    CHECK_HAS(err.text, "memory 1 MiB: must be");
    c = good();
    c.kernel = NULL;
    CHECK_INT(config_check(&c, &err), -EINVAL);
    c = good();
    c.vsock_port = (struct stream_port *)&c; /* only looked at for NULL */
    c.vsock_cid = 2;
    CHECK_INT(config_check(&c, &err), -ERANGE);
    c = good();
    c.share_count = 2;
    (void)strcpy(c.shares[0].tag, "a");
    (void)strcpy(c.shares[1].tag, "a");
    CHECK_INT(config_check(&c, &err), -EEXIST);
    c.shares[1].tag[0] = 0;
    CHECK_INT(config_check(&c, &err), -EINVAL);
}

TEST(config, engines_have_names)
{
    enum config_engine e = ENGINE_AUTO;
    struct err err = {0};

    CHECK_INT(config_engine_parse("soft", &e, &err), 0);
    CHECK_STR(config_engine_name(e), "soft");
    CHECK_INT(config_engine_parse("tcg", &e, &err), -EINVAL);
    CHECK_HAS(err.text, "engine 'tcg'");
}
