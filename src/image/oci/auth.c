/* auth.c — see auth.h. */
#include "image/oci/auth.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/buf.h"

#define HELPER_ANSWER_MAX 65536u

void oci_login_fini(struct oci_login *login)
{
    free(login->user);
    if (login->secret) {
        explicit_bzero(login->secret, strlen(login->secret));
    }
    free(login->secret);
    *login = (struct oci_login){0};
}

static int set(struct oci_login *login, const char *user, const char *secret, struct err *err)
{
    login->user = strdup(user);
    login->secret = strdup(secret);
    return login->user && login->secret ? 0 : err_set(err, -ENOMEM, "login: out of memory");
}

char *oci_base64(const char *data, size_t len)
{
    char *text = malloc((len + 2) / 3 * 4 + 1);

    if (text) {
        (void)EVP_EncodeBlock((unsigned char *)text, (const unsigned char *)data, (int)len);
    }
    return text;
}

/* "user:secret" in base 64. */
static int decode(const char *path, const char *host, const char *text, struct oci_login *login,
                  struct err *err)
{
    size_t len = strlen(text);
    AUTO_FREE char *plain = calloc(1, len + 4);
    char *colon;
    int n;

    if (!plain) {
        return err_set(err, -ENOMEM, "login: out of memory");
    }
    n = EVP_DecodeBlock((unsigned char *)plain, (const unsigned char *)text, (int)len);
    colon = n > 0 ? strchr(plain, ':') : NULL;
    if (!colon) {
        return err_set(err, -EBADMSG, "'%s': auth of '%s': must be user:password in base 64", path,
                       host);
    }
    *colon = 0;
    return set(login, plain, colon + 1, err);
}

static int read_all(int fd, struct buf *out)
{
    char bytes[1024];
    ssize_t n;

    while ((n = read(fd, bytes, sizeof(bytes))) > 0 && out->len < HELPER_ANSWER_MAX) {
        buf_append(out, bytes, (size_t)n);
    }
    return n < 0 ? -errno : buf_status(out);
}

/* Run `docker-credential-<name> get` with the host on its standard input. */
static int run_helper(const char *name, const char *host, struct buf *out, struct err *err)
{
    char program[128];
    char *argv[] = {program, (char[]){"get"}, NULL};
    posix_spawn_file_actions_t actions;
    int in[2] = {-1, -1};
    int answer[2] = {-1, -1};
    int status = 0;
    pid_t pid;
    int r;

    (void)snprintf(program, sizeof(program), "docker-credential-%s", name);
    if (pipe2(in, O_CLOEXEC) < 0 || pipe2(answer, O_CLOEXEC) < 0) {
        return err_sys(err, "run '%s'", program);
    }
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
    (void)posix_spawn_file_actions_adddup2(&actions, answer[1], STDOUT_FILENO);
    r = -posix_spawnp(&pid, program, &actions, NULL, argv, environ);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)close(in[0]);
    (void)close(answer[1]);
    if (r == 0) {
        (void)!write(in[1], host, strlen(host));
        (void)!write(in[1], "\n", 1);
    }
    (void)close(in[1]);
    if (r == 0) {
        r = read_all(answer[0], out);
        (void)waitpid(pid, &status, 0);
    }
    (void)close(answer[0]);
    return r < 0 ? err_set(err, r, "run '%s': %s", program, strerror(-r)) : status;
}

static int ask_helper(const char *name, const char *host, struct oci_login *login, struct err *err)
{
    struct buf answer = {0};
    const char *user;
    const char *secret;
    json_t *json;
    int r = run_helper(name, host, &answer, err);

    if (r > 0) { /* it knows nothing about this host, and says so with a status */
        buf_fini(&answer);
        return 0;
    }
    json = r == 0 ? json_loadb(buf_str(&answer), answer.len, 0, NULL) : NULL;
    user = json_string_value(json_object_get(json, "Username"));
    secret = json_string_value(json_object_get(json, "Secret"));
    if (r == 0) {
        r = user && secret ? set(login, user, secret, err)
                           : err_set(err, -EBADMSG,
                                     "docker-credential-%s: it gave no Username and Secret", name);
    }
    json_decref(json);
    buf_fini(&answer);
    return r;
}

static int find_in(const char *path, const json_t *config, const char *host,
                   struct oci_login *login, struct err *err)
{
    const char *helper =
        json_string_value(json_object_get(json_object_get(config, "credHelpers"), host));
    const json_t *entry = json_object_get(json_object_get(config, "auths"), host);
    const char *store = json_string_value(json_object_get(config, "credsStore"));
    const char *token = json_string_value(json_object_get(entry, "identitytoken"));
    const char *auth = json_string_value(json_object_get(entry, "auth"));

    if (helper) {
        return ask_helper(helper, host, login, err);
    }
    if (token && token[0]) {
        return set(login, OCI_LOGIN_TOKEN, token, err);
    }
    if (auth && auth[0]) {
        return decode(path, host, auth, login, err);
    }
    return store ? ask_helper(store, host, login, err) : 0;
}

int oci_login_find(const char *host, struct oci_login *ret_login, struct err *err)
{
    const char *folder = getenv("DOCKER_CONFIG");
    const char *home = getenv("HOME");
    char path[4200];
    json_error_t why;
    json_t *config;
    int r;

    *ret_login = (struct oci_login){0};
    if (folder && folder[0]) {
        (void)snprintf(path, sizeof(path), "%s/config.json", folder);
    } else if (home && home[0]) {
        (void)snprintf(path, sizeof(path), "%s/.docker/config.json", home);
    } else {
        return 0;
    }
    if (access(path, F_OK) < 0) {
        return 0;
    }
    config = json_load_file(path, 0, &why);
    if (!config) {
        return err_set(err, -EBADMSG, "'%s': line %d: %s", path, why.line, why.text);
    }
    r = find_in(path, config, host, ret_login, err);
    json_decref(config);
    if (r < 0) {
        oci_login_fini(ret_login);
    }
    return r;
}
