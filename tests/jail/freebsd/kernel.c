/* FreeBSD's calls for jails, by the rules of its kernel, for tests on Linux.
 *
 * The iovecs are read as vfs_buildopts() and kern_jail_set() read them: pairs, names that end with
 * NUL, values of the right size, unknown names refused, "errmsg" written to. Jails live in this
 * process. Every call is one line of the file that FBJ_RECORD names: the call, then its words,
 * with values in hex. FBJ_FAIL=CALL:ERRNO makes a call fail; FBJ_NO_ROOT=1 is a process that may
 * not.
 */
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* sys/jail.h and sys/_iovec.h, as jail(2) shows them */
struct in_addr4 {
    uint32_t s_addr;
};
struct in6_addr16 {
    uint8_t s6_addr[16];
};
struct jail {
    uint32_t version;
    char *path;
    char *hostname;
    char *jailname;
    uint32_t ip4s;
    uint32_t ip6s;
    struct in_addr4 *ip4;
    struct in6_addr16 *ip6;
};
struct iovec {
    void *iov_base;
    size_t iov_len;
};

enum { JAIL_CREATE = 1, JAIL_UPDATE = 2, JAIL_ATTACH = 4, JAIL_DYING = 8 };
enum { MAXPATHLEN_ = 1024, MAXHOSTNAMELEN_ = 256, JAILS = 16 };

struct prison {
    int jid;
    char name[MAXHOSTNAMELEN_];
};
static struct prison prisons[JAILS];
static int count, inside;

/* The layout of struct jail and struct iovec, for the test to compare: size, then offsets. */
int
fbj_layout(uint32_t out[11])
{
    const uint32_t found[11] = {
        sizeof(struct jail),
        offsetof(struct jail, version),
        offsetof(struct jail, path),
        offsetof(struct jail, hostname),
        offsetof(struct jail, jailname),
        offsetof(struct jail, ip4s),
        offsetof(struct jail, ip6s),
        offsetof(struct jail, ip4),
        offsetof(struct jail, ip6),
        sizeof(struct iovec),
        offsetof(struct iovec, iov_len),
    };
    memcpy(out, found, sizeof(found));
    return 0;
}

/* Write a line of the record. */
static void
record(const char *format, ...)
{
    const char *path = getenv("FBJ_RECORD");
    FILE *file = path ? fopen(path, "a") : NULL;
    va_list arguments;

    if (file == NULL)
        return;
    va_start(arguments, format);
    vfprintf(file, format, arguments);
    va_end(arguments);
    fclose(file);
}

static void
record_bytes(const void *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        record("%02x", ((const uint8_t *)bytes)[i]);
}

static int
fails(const char *call)
{
    const char *wish = getenv("FBJ_FAIL");
    size_t length = strlen(call);

    if (wish && !strncmp(wish, call, length) && wish[length] == ':') {
        errno = atoi(wish + length + 1);
        return 1;
    }
    if (inside || getenv("FBJ_NO_ROOT")) {
        errno = EPERM;
        return 1;
    }
    return 0;
}

static int
say(struct iovec *vector, unsigned many, int number, const char *format, ...)
{
    va_list arguments;

    for (unsigned i = 0; i + 1 < many; i += 2)
        if (!strcmp(vector[i].iov_base, "errmsg") && vector[i + 1].iov_len > 0) {
            va_start(arguments, format);
            vsnprintf(vector[i + 1].iov_base, vector[i + 1].iov_len, format, arguments);
            va_end(arguments);
        }
    errno = number;
    return -1;
}

static struct prison *
find(int jid, const char *name)
{
    for (int i = 0; i < count; i++)
        if ((jid > 0 && prisons[i].jid == jid) ||
            (name && *name && !strcmp(prisons[i].name, name)))
            return &prisons[i];
    return NULL;
}

static struct prison *
add(const char *name)
{
    struct prison *made = &prisons[count++];

    made->jid = count;
    if (name && *name)
        snprintf(made->name, sizeof(made->name), "%s", name);
    else
        snprintf(made->name, sizeof(made->name), "%d", count);
    return made;
}

static int
is_directory(const char *path)
{
    struct stat info;

    if (stat(path, &info) < 0)
        return 0;
    if (!S_ISDIR(info.st_mode))
        errno = ENOTDIR;
    return S_ISDIR(info.st_mode) != 0;
}

int
jail(struct jail *wish)
{
    record("jail version=%u path=%s hostname=%s jailname=%s ip4=", wish->version, wish->path,
           wish->hostname, wish->jailname ? wish->jailname : "NULL");
    record_bytes(wish->ip4, wish->ip4s * sizeof(*wish->ip4));
    record(" ip6=");
    record_bytes(wish->ip6, wish->ip6s * sizeof(*wish->ip6));
    record("\n");
    if (wish->version != 2 || (wish->ip4s > 0) != (wish->ip4 != NULL) ||
        (wish->ip6s > 0) != (wish->ip6 != NULL)) {
        errno = EINVAL;
        return -1;
    }
    if (fails("jail") || !is_directory(wish->path))
        return -1;
    inside = 1;
    return add(wish->jailname)->jid;
}

/* vfs_buildopts(): pairs of which each name ends with its only NUL. */
static int
well_formed(struct iovec *vector, unsigned many)
{
    if (many % 2 != 0)
        return 0;
    for (unsigned i = 0; i < many; i += 2) {
        const char *name = vector[i].iov_base;
        size_t length = vector[i].iov_len;

        if (name == NULL || length < 2 || length > MAXPATHLEN_ ||
            strnlen(name, length) != length - 1)
            return 0;
        if ((vector[i + 1].iov_base == NULL) != (vector[i + 1].iov_len == 0))
            return 0;
    }
    return 1;
}

static void
record_vector(const char *call, struct iovec *vector, unsigned many, int flags)
{
    record("%s flags=%d", call, flags);
    for (unsigned i = 0; i < many; i += 2) {
        if (!strcmp(vector[i].iov_base, "errmsg")) {
            record(" errmsg[%zu]", vector[i + 1].iov_len);
            continue;
        }
        record(" %s=", (char *)vector[i].iov_base);
        record_bytes(vector[i + 1].iov_base, vector[i + 1].iov_len);
    }
    record("\n");
}

static int
listed(const char *words, const char *name)
{
    size_t length = strlen(name);

    for (const char *at = words; (at = strstr(at, name)) != NULL; at += length)
        if ((at == words || at[-1] == ' ') && (at[length] == ' ' || at[length] == '\0'))
            return 1;
    return 0;
}

static const char TEXTS[] = "name path host.hostname host.domainname host.hostuuid osrelease";
static const char NUMBERS[] =
    "jid securelevel devfs_ruleset enforce_statfs children.max osreldate";
static const char SYSTEMS[] = "ip4 ip6 host vnet sysvmsg sysvsem sysvshm";
static const char FLAGS[] =
    "persist nopersist ip4.saddrsel ip4.nosaddrsel ip6.saddrsel ip6.nosaddrsel "
    "allow.set_hostname allow.sysvipc allow.raw_sockets allow.chflags allow.mount "
    "allow.mount.devfs allow.mount.procfs allow.quotas allow.socket_af "
    "allow.noset_hostname allow.nosysvipc allow.noraw_sockets allow.nochflags allow.nomount "
    "allow.mount.nodevfs allow.mount.noprocfs allow.noquotas allow.nosocket_af";

/* kern_jail_set(): the size that each parameter must have. Return 0, or -1 with errno and errmsg.
 */
static int
check_value(struct iovec *vector, unsigned many, unsigned i)
{
    const char *name = vector[i].iov_base, *value = vector[i + 1].iov_base;
    size_t size = vector[i + 1].iov_len;
    int32_t number = 0;

    if (!strcmp(name, "errmsg") || (listed(FLAGS, name) && size == 0))
        return 0;
    if (listed(TEXTS, name)) {
        size_t room = strcmp(name, "path") ? MAXHOSTNAMELEN_ : MAXPATHLEN_;

        if (size == 0 || value[size - 1] != '\0')
            return say(vector, many, EINVAL, "%s is not a string", name);
        return size > room ? say(vector, many, ENAMETOOLONG, "%s is too long", name) : 0;
    }
    if (listed(NUMBERS, name) || listed(SYSTEMS, name)) {
        if (size != sizeof(number))
            return say(vector, many, EINVAL, "%s has the wrong size", name);
        memcpy(&number, value, sizeof(number));
        if (listed(SYSTEMS, name) && (number < 0 || number > 2))
            return say(vector, many, EINVAL, "%s is out of range", name);
        if (!strcmp(name, "enforce_statfs") && (number < 0 || number > 2))
            return say(vector, many, EINVAL, "%s is out of range", name);
        return 0;
    }
    if (!strcmp(name, "host.hostid"))
        return size == sizeof(unsigned long) ? 0 : say(vector, many, EINVAL, "wrong size");
    if (!strcmp(name, "ip4.addr"))
        return size > 0 && size % 4 == 0 ? 0 : say(vector, many, EINVAL, "wrong size");
    if (!strcmp(name, "ip6.addr"))
        return size > 0 && size % 16 == 0 ? 0 : say(vector, many, EINVAL, "wrong size");
    return say(vector, many, EINVAL, "unknown parameter: %s", name);
}

static const void *
value_of(struct iovec *vector, unsigned many, const char *name)
{
    for (unsigned i = many; i >= 2; i -= 2) /* vfs_sanitizeopts(): the last of equal names */
        if (!strcmp(vector[i - 2].iov_base, name))
            return vector[i - 1].iov_len ? vector[i - 1].iov_base : name;
    return NULL;
}

static int
number_of(struct iovec *vector, unsigned many, const char *name)
{
    const void *value = value_of(vector, many, name);
    int32_t number = 0;

    if (value)
        memcpy(&number, value, sizeof(number));
    return number;
}

int
jail_set(struct iovec *vector, unsigned many, int flags)
{
    const char *path, *name;
    struct prison *found;
    int jid;

    if (!well_formed(vector, many)) {
        errno = EINVAL;
        return -1;
    }
    record_vector("jail_set", vector, many, flags);
    if (fails("jail_set"))
        return -1;
    if (flags & ~(JAIL_CREATE | JAIL_UPDATE | JAIL_ATTACH | JAIL_DYING) ||
        !(flags & (JAIL_CREATE | JAIL_UPDATE))) {
        errno = EINVAL;
        return -1;
    }
    for (unsigned i = 0; i < many; i += 2)
        if (check_value(vector, many, i) < 0)
            return -1;
    if ((flags & (JAIL_CREATE | JAIL_ATTACH)) == JAIL_CREATE && !value_of(vector, many, "persist"))
        return say(vector, many, EINVAL, "new jail must persist or attach");
    jid = number_of(vector, many, "jid");
    name = value_of(vector, many, "name");
    path = value_of(vector, many, "path");
    found = find(jid, name);
    if (found && !(flags & JAIL_UPDATE))
        return say(vector, many, EEXIST, "jail \"%s\" already exists", found->name);
    if (!found && !(flags & JAIL_CREATE))
        return say(vector, many, ENOENT, "jail \"%s\" not found", name ? name : "");
    if (path && !is_directory(path))
        return -1;
    if (!found)
        found = add(name);
    inside = (flags & JAIL_ATTACH) != 0;
    return found->jid;
}

int
jail_get(struct iovec *vector, unsigned many, int flags)
{
    const char *name;
    struct prison *found = NULL;
    int last;

    if (!well_formed(vector, many)) {
        errno = EINVAL;
        return -1;
    }
    record_vector("jail_get", vector, many, flags);
    if (fails("jail_get"))
        return -1;
    name = value_of(vector, many, "name");
    last = number_of(vector, many, "lastjid");
    if (value_of(vector, many, "lastjid"))
        found = last < count ? &prisons[last] : NULL;
    else
        found = find(number_of(vector, many, "jid"), name);
    if (!found)
        return say(vector, many, ENOENT, name ? "jail \"%s\" not found" : "jail not found", name);
    for (unsigned i = 0; i < many; i += 2)
        if (!strcmp(vector[i].iov_base, "name") && vector[i + 1].iov_len > strlen(found->name))
            strcpy(vector[i + 1].iov_base, found->name);
    return found->jid;
}

int
jail_attach(int jid)
{
    record("jail_attach jid=%d\n", jid);
    if (fails("jail_attach"))
        return -1;
    if (!find(jid, NULL)) {
        errno = EINVAL;
        return -1;
    }
    inside = 1;
    return 0;
}

int
jail_remove(int jid)
{
    struct prison *found = find(jid, NULL);

    record("jail_remove jid=%d\n", jid);
    if (fails("jail_remove"))
        return -1;
    if (!found) {
        errno = EINVAL;
        return -1;
    }
    found->jid = -1;
    found->name[0] = '\0';
    return 0;
}
