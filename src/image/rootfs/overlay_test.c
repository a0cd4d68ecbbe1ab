/* overlay_test.c — which files of an image may lie over a host's. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "image/rootfs/overlay.h"
#include "tests/lib/test.h"

/* Make two trees by a shell's commands in a new folder: image/ and host/, merged as Debian's. */
static int check_trees(const char *commands, struct err *err)
{
    char dir[] = "/tmp/ec1-overlay-XXXXXX";
    char command[1024];
    char image[64];
    char host[64];
    int r;

    CHECK(mkdtemp(dir) != NULL);
    (void)snprintf(command, sizeof(command),
                   "cd %s && mkdir -p image host/usr/lib host/usr/bin host/etc host/real && "
                   "ln -s usr/lib host/lib && ln -s usr/bin host/bin && { %s; }",
                   dir, commands);
    CHECK_INT(system(command), 0);
    (void)snprintf(image, sizeof(image), "%s/image", dir);
    (void)snprintf(host, sizeof(host), "%s/host", dir);
    r = overlay_check(image, host, err);
    (void)snprintf(command, sizeof(command), "rm -rf %s", dir);
    CHECK_INT(system(command), 0);
    return r;
}

TEST(rootfs, an_image_that_keeps_to_usr_fits_over_the_host)
{
    struct err err = {0};

    CHECK_OK(
        check_trees("mkdir -p image/usr/lib/modules/6.1 image/usr/bin image/boot image/new/lib && "
                    "ln -s usr/lib image/lib && touch image/etc-file image/usr/bin/tool && "
                    "mkdir image/etc && ln -s nothing image/usr/bin/link",
                    &err),
        &err);
    CHECK_OK(check_trees("true", &err), &err);
}

TEST(rootfs, a_folder_over_a_link_of_the_host_is_named_with_the_cure)
{
    struct err err = {0};

    CHECK_INT(check_trees("mkdir -p image/lib/modules/6.1", &err), -EEXIST);
    CHECK_HAS(err.text, "folder '/lib' shadows the host's symbolic link '/lib' -> 'usr/lib'");
    CHECK_HAS(err.text, "host/usr/lib' in the image");
    CHECK_INT(check_trees("mkdir -p image/usr/lib/modules host/srv/m && "
                          "ln -s ../../srv/m host/usr/lib/modules",
                          &err),
              -EEXIST);
    CHECK_HAS(err.text, "folder '/usr/lib/modules' shadows");
    CHECK_HAS(err.text, "host/srv/m'");
    CHECK_INT(check_trees("mkdir image/etc image/etc/x && ln -s gone host/etc/x", &err), -EEXIST);
    CHECK_HAS(err.text, "give it another name");
}

TEST(rootfs, what_is_no_folder_may_not_hide_one_that_programs_are_in)
{
    struct err err = {0};

    CHECK_INT(check_trees("ln -s usr/lib image/real", &err), -EEXIST);
    CHECK_HAS(err.text, "symbolic link '/real' shadows the host's folder");
    CHECK_INT(check_trees("mkdir image/usr && touch image/usr/lib", &err), -EEXIST);
    CHECK_HAS(err.text, "file '/usr/lib' shadows");
    CHECK_OK(check_trees("mkdir -p image/usr/share/doc host/usr/share/doc/a && "
                         "ln -s b image/usr/share/doc/a",
                         &err),
             &err);
}

TEST(rootfs, folders_that_each_vm_has_of_its_own_are_not_looked_into)
{
    struct err err = {0};

    CHECK_OK(check_trees("mkdir image/tmp image/run image/dev image/proc image/sys && "
                         "ln -s real host/tmp && ln -s real host/run",
                         &err),
             &err);
    CHECK_INT(check_trees("mkdir -p image/etc/tmp && ln -s / host/etc/tmp", &err), -EEXIST);
}

TEST(rootfs, an_image_that_cannot_be_opened_is_an_error)
{
    struct err err = {0};

    CHECK_INT(overlay_check("/nonexistent", "/", &err), -ENOENT);
    CHECK_HAS(err.text, "/nonexistent");
}
