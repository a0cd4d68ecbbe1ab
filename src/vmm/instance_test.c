/* instance_test.c — VMs are found by name and id, and the dead leave nothing behind. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/test.h"
#include "vmm/instance.h"

static char g_dir[64];

static void fresh_root(void)
{
    char cmd[256];

    (void)snprintf(g_dir, sizeof(g_dir), "/tmp/ec1-test-%d", (int)getpid());
    (void)snprintf(cmd, sizeof(cmd), "rm -rf %s && mkdir -m 700 %s", g_dir, g_dir);
    CHECK_INT(system(cmd), 0);
    CHECK_INT(setenv("XDG_RUNTIME_DIR", g_dir, 1), 0);
}

static int count(void)
{
    struct instance_info *list = NULL;
    struct err err = {0};
    int n = instance_list(&list, &err);

    free(list);
    return n;
}

TEST(vmm, an_instance_is_found_while_it_lives_and_gone_after)
{
    struct instance a;
    struct instance b;
    struct instance_info info;
    struct err err = {0};

    fresh_root();
    CHECK_OK(instance_create("web", &a, &err), &err);
    CHECK_INT(instance_create("web", &b, &err), -EEXIST);
    CHECK_INT(instance_create("../x", &b, &err), -EINVAL);
    CHECK_INT(instance_create("", &b, &err), -EINVAL);
    CHECK_OK(instance_create(NULL, &b, &err), &err);
    a.info.vcpu_count = 2;
    (void)strcpy(a.info.command, "echo \xff"); /* not UTF-8: must not spoil the rest */
    CHECK_OK(instance_update(&a, &err), &err);
    CHECK_OK(instance_find("web", &info, &err), &err);
    CHECK_STR(info.id, a.info.id);
    CHECK_INT(info.vcpu_count, 2);
    CHECK(info.is_alive);
    CHECK_OK(instance_find(b.info.id, &info, &err), &err);
    CHECK_INT(instance_find("zz", &info, &err), -ENOENT);
    CHECK_INT(instance_find("", &info, &err), -ENOENT);
    CHECK_INT(instance_remove(&info, &err), -EBUSY);
    CHECK_INT(count(), 2);
    instance_close(&a);
    instance_close(&a);
    instance_close(&b);
    CHECK_INT(count(), 0);
}

TEST(vmm, a_kept_instance_stays_listed_until_removed)
{
    struct instance a;
    struct instance_info info;
    struct err err = {0};

    fresh_root();
    CHECK_OK(instance_create("job", &a, &err), &err);
    a.info.is_kept = true;
    a.info.exit_status = 3;
    (void)strcpy(a.info.end, "exited");
    CHECK_OK(instance_update(&a, &err), &err);
    instance_close(&a);
    CHECK_OK(instance_find("job", &info, &err), &err);
    CHECK(!info.is_alive);
    CHECK_INT(info.exit_status, 3);
    CHECK_OK(instance_remove(&info, &err), &err);
    CHECK_INT(count(), 0);
}

TEST(vmm, a_killed_monitor_leaves_nothing_to_stumble_over)
{
    struct err err = {0};
    struct instance a;
    pid_t pid;
    int status;

    fresh_root();
    pid = fork();
    if (pid == 0) {
        (void)instance_create("dead", &a, &err);
        (void)kill(getpid(), SIGKILL);
    }
    CHECK_INT(waitpid(pid, &status, 0), pid);
    CHECK_OK(instance_create("dead", &a, &err), &err);
    CHECK_INT(count(), 1);
    instance_close(&a);
}

TEST(vmm, a_runtime_folder_open_to_others_is_refused)
{
    struct instance a;
    struct err err = {0};
    char path[128];

    fresh_root();
    (void)snprintf(path, sizeof(path), "%s/ec1", g_dir);
    CHECK_INT(mkdir(path, 0755), 0);
    CHECK_INT(instance_create(NULL, &a, &err), -EPERM);
    CHECK_HAS(err.text, "mode 0700");
}
