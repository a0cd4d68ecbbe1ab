/* overlay.h — may the files of a kernel's folder lie over the host's root? */
#pragma once

#include "base/err.h"

/* In an overlay a folder of the image takes the place of a symbolic link of the host, and whatever
 * was behind the link is gone: /lib, /bin, /sbin and /lib64 are links on most hosts, and without
 * them no program runs.  The same goes for what is no folder and takes the place of one.  -EEXIST
 * with a sentence that names the first such path; 0 otherwise.  Folders that each VM has of its own
 * (/proc, /tmp, ...) are not looked into.  `host` is "/". */
int overlay_check(const char *image, const char *host, struct err *err);
