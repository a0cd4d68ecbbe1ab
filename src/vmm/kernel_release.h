/* kernel_release.h — which Linux a kernel file holds. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define KERNEL_RELEASE_MAX 128

/* "6.1.0-56-cloud-amd64", as `uname -r` will say, out of the file itself; "" if it does not say so
 * where one looks.  A bzImage has it in its header; an ELF is searched for its banner when `deep`,
 * which takes some milliseconds. */
void kernel_release(const char *path, bool deep, char out[static KERNEL_RELEASE_MAX]);
/* "/boot/vmlinuz-6.1.0" -> "6.1.0"; "" for other names. */
void kernel_release_of_name(const char *path, char out[static KERNEL_RELEASE_MAX]);
