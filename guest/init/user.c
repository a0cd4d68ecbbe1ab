/* user.c — users and groups from passwd and group files. */
#include "guest/init/user.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/str.h"

void user_fini(struct user *user)
{
    if (user) {
        free(user->groups);
        *user = (struct user){0};
    }
}

static int add_group(struct user *user, gid_t gid)
{
    gid_t *groups;

    for (size_t i = 0; i < user->group_count; i++) {
        if (user->groups[i] == gid) {
            return 0;
        }
    }
    if (user->group_count == USER_GROUPS_MAX) {
        return -E2BIG;
    }
    groups = reallocarray(user->groups, user->group_count + 1, sizeof(*groups));
    if (!groups) {
        return -ENOMEM;
    }
    groups[user->group_count++] = gid;
    user->groups = groups;
    return 0;
}

static FILE *open_file(const char *etc, const char *name)
{
    char path[256];

    (void)snprintf(path, sizeof(path), "%s/%s", etc, name);
    return fopen(path, "re");
}

static bool is_number(const char *text, uint32_t *ret_number)
{
    uint64_t value;

    if (str_to_u64("id", text, 0, UINT32_MAX - 1, &value, NULL) < 0) {
        return false;
    }
    *ret_number = (uint32_t)value;
    return true;
}

/* Fills uid and gid; `name` gets the login name, "" if there is none.  */
static int find_user(const char *etc, const char *text, struct user *user, char name[static 256],
                     struct err *err)
{
    AUTO_FCLOSE FILE *file = open_file(etc, "passwd");
    uint32_t uid = 0;
    bool is_uid = is_number(text, &uid);
    struct passwd *entry;

    name[0] = 0;
    while (file && (entry = fgetpwent(file))) {
        if (strcmp(entry->pw_name, text) == 0 || (is_uid && entry->pw_uid == uid)) {
            user->uid = entry->pw_uid;
            user->gid = entry->pw_gid;
            (void)snprintf(name, 256, "%s", entry->pw_name);
            return 0;
        }
    }
    if (!is_uid) {
        return err_set(err, -ENOENT, "no user '%s' in the VM's /etc/passwd", text);
    }
    user->uid = uid;
    user->gid = 0;
    return 0;
}

static int find_group(const char *etc, const char *text, gid_t *ret_gid, struct err *err)
{
    AUTO_FCLOSE FILE *file = open_file(etc, "group");
    struct group *entry;

    while (file && (entry = fgetgrent(file))) {
        if (strcmp(entry->gr_name, text) == 0) {
            *ret_gid = entry->gr_gid;
            return 0;
        }
    }
    if (is_number(text, ret_gid)) {
        return 0;
    }
    return err_set(err, -ENOENT, "no group '%s' in the VM's /etc/group", text);
}

static int add_memberships(const char *etc, const char *name, struct user *user)
{
    AUTO_FCLOSE FILE *file = open_file(etc, "group");
    struct group *entry;

    while (file && (entry = fgetgrent(file))) {
        for (char **member = entry->gr_mem; *member; member++) {
            int r = strcmp(*member, name) == 0 ? add_group(user, entry->gr_gid) : 0;

            if (r < 0) {
                return r;
            }
        }
    }
    return 0;
}

static int by_name(const char *etc, const char *wanted, struct user *user, struct err *err)
{
    char text[256];
    char name[256];
    char *group;
    int r;

    if (strlen(wanted) >= sizeof(text)) {
        return err_set(err, -EINVAL, "the user name is too long");
    }
    (void)snprintf(text, sizeof(text), "%s", wanted);
    group = strchr(text, ':');
    if (group) {
        *group++ = 0;
    }
    r = find_user(etc, text[0] ? text : "0", user, name, err);
    if (r < 0) {
        return r;
    }
    /* A group that was asked for stands alone, as with docker. */
    if (group && group[0]) {
        return find_group(etc, group, &user->gid, err);
    }
    return name[0] ? add_memberships(etc, name, user) : 0;
}

static int by_number(const Ec1__V1__User *wanted, struct user *user)
{
    user->uid = wanted->uid;
    user->gid = wanted->gid;
    for (size_t i = 0; i < wanted->n_groups; i++) {
        int r = add_group(user, wanted->groups[i]);

        if (r < 0) {
            return r;
        }
    }
    return 0;
}

int user_find(const char *etc, const Ec1__V1__User *wanted, struct user *ret_user, struct err *err)
{
    struct user user = {0};
    int r = 0;

    if (wanted && wanted->name && wanted->name[0]) {
        r = by_name(etc, wanted->name, &user, err);
    } else if (wanted) {
        r = by_number(wanted, &user);
    }
    if (r < 0) {
        user_fini(&user);
        return err && err->code ? r : err_set(err, r, "user: %s", strerror(-r));
    }
    *ret_user = user;
    return 0;
}
