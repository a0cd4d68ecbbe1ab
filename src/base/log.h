/* log.h — levelled messages to stderr, for the doors (cli, api, runner, vmm) and thread heads.
 *
 * Everything below the doors returns its error instead of logging it; debug level is free outside
 * hot loops.  Form: lower case, no full stop, names in 'quotes', units.  Any thread may log; one
 * message is one write(2), so lines do not mix.
 */
#pragma once

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Messages above `level` are dropped.  Default LOG_WARN. */
void log_set_level(enum log_level level);
enum log_level log_get_level(void);

/* The word in front of each message ("ec1: warning: ...").  `name` must outlive all logging. */
void log_set_name(const char *name);

void log_put(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_put(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_put(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_put(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_put(LOG_DEBUG, __VA_ARGS__)
