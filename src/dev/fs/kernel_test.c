/* kernel_test.c — a real kernel's FUSE client over a session: what programs see. */
#include <stdatomic.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "tests/lib/fuse_mount.h"

/* Run a shell script with $M the mount and $D the host's directory. */
static void script(const struct fuse_mount *m, const struct fuse_client *c, const char *text)
{
    char full[4096];
    pid_t pid;
    int status;

    (void)snprintf(full, sizeof(full), "no() { if \"$@\"; then exit 1; fi; }; %s", text);
    pid = fork();

    CHECK(pid >= 0);
    if (pid == 0) {
        (void)setenv("M", m->at, 1);
        (void)setenv("D", c->dir, 1);
        (void)execl("/bin/bash", "bash", "-euxc", full, (char *)NULL);
        _exit(127);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        print_error("script ended with %#x\n", (unsigned)status);
        fail();
    }
}

static void with_mount(bool is_read_only, const char *prepare, const char *text)
{
    struct fuse_client c;
    struct fuse_mount m;

    fuse_client_dir(&c);
    m.at[0] = '\0';
    if (prepare) {
        script(&m, &c, prepare);
    }
    if (!fuse_mount_init(&m, c.dir, is_read_only)) {
        host_dir_remove(c.dir);
        SKIP("needs root, /dev/fuse and mount");
    }
    script(&m, &c, text);
    fuse_mount_fini(&m);
    host_dir_remove(c.dir);
}

TEST(fs_kernel, files_and_names)
{
    with_mount(false, NULL,
               "cd $M; echo hello > a; [ \"$(cat $D/a)\" = hello ]; echo more >> a; "
               "[ $(stat -c %s a) = 11 ]; ln a b; [ $(stat -c %h a) = 2 ]; "
               "[ $(stat -c %i a) = $(stat -c %i b) ]; mv a c; [ ! -e a ]; cat b; rm b; cat c; "
               "ln -s c l; [ \"$(cat l)\" = \"$(cat c)\" ]; [ $(readlink l) = c ]; "
               "mkdir -p d/e/f; mv d/e g; rmdir g/f; no rmdir d/x; mkfifo p; [ -p $D/p ]; "
               "chmod 4711 c; [ $(stat -c %a $D/c) = 4711 ]; touch -d @100 c; "
               "[ $(stat -c %Y $D/c) = 100 ]; truncate -s 1M c; [ $(stat -c %s $D/c) = 1048576 ]; "
               "chown 12:34 c; [ $(stat -c %u:%g $D/c) = 12:34 ]; df . >/dev/null; "
               "exec 5<>x; echo gone >&5; rm x; echo still >&5; [ $(stat -L -c %s /proc/self/fd/5) "
               "= 11 ]; exec 5<&-; rm -rf d g; ls -la; echo new > y; echo old > z; mv y z; "
               "[ $(cat z) = new ]; sync; sync z");
}

TEST(fs_kernel, data_goes_both_ways_whole)
{
    with_mount(
        false, "head -c 20000000 /dev/urandom > $D/r",
        "cd $M; cmp r $D/r; cp r s; cmp $D/r $D/s; dd if=r of=t bs=777 count=1000 2>/dev/null; "
        "cmp -n 777000 t $D/r; dd if=r of=t bs=1000 seek=3 conv=notrunc count=9 2>/dev/null; "
        "echo tail > $D/r; sleep 1.1; [ \"$(cat r)\" = tail ]; "
        "echo again > $D/r; [ \"$(cat r)\" = again ]; fallocate -l 100000 u; "
        "[ $(stat -c %s $D/u) = 100000 ]; fallocate -p -o 0 -l 65536 u; cp --sparse=always u v; "
        "cmp u v; cp --reflink=auto r w; cmp r w");
}

TEST(fs_kernel, programs_run_and_are_mapped)
{
    with_mount(true, "cp /bin/bash $D/bash; cp /bin/true $D/t; ln -s t $D/l; chmod 755 $D/*",
               "$M/t; $M/l; [ \"$($M/bash -c 'echo $((6*7))')\" = 42 ]; no touch $M/x; "
               "for i in 1 2 3; do $M/t; done; ls -l $M; cmp $M/bash /bin/bash");
}

TEST(fs_kernel, read_only_share_is_opened_without_asking)
{
    struct fuse_client c;
    struct fuse_mount m;

    fuse_client_dir(&c);
    host_file(&c, "a", "x");
    if (!fuse_mount_init(&m, c.dir, true)) {
        host_dir_remove(c.dir);
        SKIP("needs root, /dev/fuse and mount");
    }
    script(&m, &c, "for i in 1 2 3 4 5; do cat $M/a; ls $M; done");
    CHECK_INT(m.counts[FUSE_OPEN], 1);
    CHECK_INT(m.counts[FUSE_OPENDIR], 1);
    CHECK_INT(m.counts[FUSE_RELEASE], 0);
    CHECK(m.counts[FUSE_FLUSH] <= 1);
    CHECK_INT(m.counts[FUSE_READ], 1); /* once: then it is cached */
    fuse_mount_fini(&m);
    host_dir_remove(c.dir);
}

TEST(fs_kernel, attributes_of_a_shared_folders_files_come_with_their_names)
{
    struct fuse_client c;
    struct fuse_mount m;

    fuse_client_dir(&c);
    if (!fuse_mount_init(&m, c.dir, false)) {
        host_dir_remove(c.dir);
        SKIP("needs root, /dev/fuse and mount");
    }
    script(&m, &c,
           "mkdir $D/d; cd $D/d; seq -f 'name-with-some-length-%g' 2000 | xargs touch; "
           "[ $(find $M/d -type f -size -9 | wc -l) = 2000 ]");
    CHECK(m.counts[FUSE_READDIRPLUS] > 0);
    CHECK(m.counts[FUSE_LOOKUP] < 20);
    CHECK(m.counts[FUSE_GETATTR] < 20);
    fuse_mount_fini(&m);
    host_dir_remove(c.dir);
}

TEST(fs_kernel, lower_layer_of_an_overlay)
{
    with_mount(
        true,
        "mkdir -p $D/usr/bin $D/etc; cp /bin/true $D/usr/bin/t; echo host > $D/etc/f; "
        "for i in $(seq 300); do echo $i > $D/etc/f$i; done; ln -s usr/bin $D/bin",
        "mkdir /tmp/ec1-ovl.$$; cd /tmp/ec1-ovl.$$; mkdir o rw; mount -t tmpfs none rw; "
        "mkdir rw/u rw/w; mount -t overlay -o lowerdir=$M,upperdir=rw/u,workdir=rw/w none o; "
        "o/bin/t; [ $(cat o/etc/f) = host ]; echo guest > o/etc/f; [ $(cat o/etc/f) = guest ]; "
        "[ $(cat $D/etc/f) = host ]; [ $(ls o/etc | wc -l) = 301 ]; rm o/etc/f7; "
        "[ $(ls o/etc | wc -l) = 300 ]; mv o/etc/f8 o/etc/g8; cat o/etc/g8; mkdir o/etc/n; "
        "rm -rf o/etc; [ ! -e o/etc ]; ls $D/etc | wc -l; umount o rw; cd /; rm -r "
        "/tmp/ec1-ovl.$$");
}

TEST(fs_kernel, ten_thousand_entries)
{
    with_mount(false,
               "mkdir $D/many; cd $D/many; seq -f 'name-with-some-length-%g' 10000 | xargs touch",
               "[ $(ls $M/many | sort -u | wc -l) = 10000 ]; [ $(find $M/many -type f | wc -l) = "
               "10000 ]; ls -l $M/many | wc -l; rm -r $M/many; [ ! -e $D/many ]");
}

/* The guest's kernel sends the end of an open file in its own time, so that is waited for. */
TEST(fs_kernel, locks_are_seen_on_both_sides)
{
    with_mount(
        false, "touch $D/f",
        "cd $M; exec 5<>f; flock -x 5; no flock -n $D/f true; no flock -n f true; exec "
        "5<&-; flock -w 5 $D/f true; flock -w 5 f true; flock $D/f sleep 1 & sleep 0.3; "
        "s=$(date +%s%N); flock f true; e=$(date +%s%N); [ $((e - s)) -gt 100000000 ]; wait");
}

TEST(fs_kernel, what_is_made_belongs_to_who_made_it)
{
    with_mount(false, NULL,
               "cd $M; chmod 777 .; umask 0; setpriv --reuid 1234 --regid 4321 --clear-groups "
               "bash -euc 'touch f; mkdir d; ln -s x l; mkfifo p; echo x > g; chmod 640 g'; "
               "for i in f d l p g; do [ $(stat -c %u:%g $D/$i) = 1234:4321 ]; done; "
               "[ $(stat -c %a $D/f) = 666 ]; [ $(stat -c %a $D/d) = 777 ]; touch r; "
               "[ $(stat -c %u $D/r) = 0 ]; chmod 4755 $D/g; chmod o+w $D/g; "
               "setpriv --reuid 99 --regid 99 --clear-groups bash -euc 'echo y >> g'; "
               "[ $(stat -c %a $D/g) = 757 ]");
}
