/* host_check.h — what this host offers to VMs, as a list for people. */
#pragma once

enum host_check_state {
    HOST_CHECK_OK,
    HOST_CHECK_NOTE, /* works without it */
    HOST_CHECK_BAD,  /* VMs cannot start */
};

#define HOST_CHECK_MAX 12

struct host_check {
    const char *name;
    enum host_check_state state;
    char text[400]; /* what was found; how to mend it */
};

/* Fills the list; returns how many. */
unsigned host_check_all(struct host_check checks[static HOST_CHECK_MAX]);
