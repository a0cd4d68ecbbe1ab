/* conn.h — one TCP connection of the guest: bytes to requests, answers to bytes. */
#pragma once

#include <stdint.h>

#include "base/list.h"

struct mmds_conn;
struct mmds;
struct tcp_pcb;

/* The connection that `pcb` is from now on; it stands in `list` until it ends. */
int mmds_conn_new(struct mmds *mmds, struct tcp_pcb *pcb, struct list *list);
/* Forget it; its pcb, if it still has one, is the caller's to end. */
void mmds_conn_free(struct mmds_conn *conn);

struct mmds_conn *mmds_conn_of(struct list *link);
struct tcp_pcb *mmds_conn_pcb(const struct mmds_conn *conn);
/* When the guest's last segment came, on the monotonic clock. */
int64_t mmds_conn_active_ns(const struct mmds_conn *conn);
