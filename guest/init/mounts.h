/* mounts.h — the file system that commands see.
 *
 * Errors say which CONFIG_* the kernel lacks.  Order of use: mounts_enter_root(), mounts_private(),
 * mounts_share() for each.  All but the first resolve paths inside the new root, as the process has
 * chrooted into it: no symbolic link of an image can lead out.
 */
#pragma once

#include "base/err.h"
#include "guest/init/report.h"
#include "proto/exec.pb-c.h"

/* Mount the root's share below a tmpfs overlay and make that "/". */
int mounts_enter_root(const Ec1__V1__Root *root, struct err *err);
/* /proc, /sys, /dev, /run, /tmp and what belongs into them. */
int mounts_private(struct report *report, struct err *err);
/* A mount without a tag keeps a folder of the root reachable that a private file system will hide:
 * before mounts_private(), hold it.  Returns a descriptor for mounts_share(), or -1. */
int mounts_keep(const Ec1__V1__Mount *mount);
int mounts_share(const Ec1__V1__Mount *mount, int kept, struct err *err);
/* After the last share. */
void mounts_done(void);
/* Create a folder and its parents. */
int mounts_make_path(const char *path);
