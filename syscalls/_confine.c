/* Walls that a process builds around itself: seccomp(2), landlock(7), keyctl(2), ioprio_set(2). */
#include "_linux.h"

#include <linux/filter.h>
#include <stdint.h>

PyDoc_STRVAR(
    seccomp_filter_doc,
    "SECCOMP_SET_MODE_FILTER of seccomp(2) with a program of struct sock_filter in bytes; "
    "the number it returns: 0, a listener, or a thread that could not follow");

static PyObject *
do_seccomp_filter(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"program", "flags", NULL};
    Py_buffer program = {0};
    unsigned int flags = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y*|I:seccomp_filter", names, &program,
                                     &flags)) {
        return NULL;
    }
    size_t size = (size_t)program.len;
    if (size % sizeof(struct sock_filter) != 0 ||
        size / sizeof(struct sock_filter) > BPF_MAXINSNS) {
        PyBuffer_Release(&program);
        PyErr_SetString(PyExc_ValueError, "seccomp_filter: not a program of struct sock_filter");
        return NULL;
    }
    struct sock_fprog request = {
        .len = (unsigned short)(size / sizeof(struct sock_filter)),
        .filter = program.buf,
    };
    long result = tripped(module, "seccomp_filter")
                      ? -1
                      : syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &request);
    PyObject *outcome = int_or_errno(result);
    PyBuffer_Release(&program);
    return outcome;
}

/* What the kernel writes and reads, with room for what newer kernels add
 * (SECCOMP_GET_NOTIF_SIZES). */
union notification {
    struct seccomp_notif request;
    struct seccomp_notif_resp answer;
    char room[512];
};

PyDoc_STRVAR(seccomp_notif_recv_doc,
             "SECCOMP_IOCTL_NOTIF_RECV of seccomp_unotify(2): (id, pid, nr, arch, args)");

static PyObject *
do_seccomp_notif_recv(PyObject *module, PyObject *arg)
{
    int fd = PyObject_AsFileDescriptor(arg);
    if (fd < 0) {
        return NULL;
    }
    union notification seen = {0};
    long result = -1;
    bool stop = false;
    if (!tripped(module, "seccomp_notif_recv")) {
        BLOCKING(result, stop, ioctl(fd, SECCOMP_IOCTL_NOTIF_RECV, &seen));
    }
    if (result < 0) {
        return raise_errno(stop, NULL, NULL);
    }
    const struct seccomp_data *data = &seen.request.data;
    return Py_BuildValue("KIiI(KKKKKK)", (unsigned long long)seen.request.id, seen.request.pid,
                         data->nr, data->arch, data->args[0], data->args[1], data->args[2],
                         data->args[3], data->args[4], data->args[5]);
}

PyDoc_STRVAR(seccomp_notif_continue_doc,
             "SECCOMP_IOCTL_NOTIF_SEND of seccomp_unotify(2): let the call be made as it is");

static PyObject *
do_seccomp_notif_continue(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"fd", "number", NULL};
    int fd = -1;
    unsigned long long id = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "iO&:seccomp_notif_continue", names, &fd,
                                     mask64, &id)) {
        return NULL;
    }
    union notification said = {
        .answer = {.id = id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE},
    };
    return none_or_errno(tripped(module, "seccomp_notif_continue")
                             ? -1
                             : ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, &said));
}

/* struct landlock_ruleset_attr of 6.12; headers of the build machine may lack the later fields. An
 * older kernel takes it as long as what it does not know is 0. */
struct ruleset_attr {
    uint64_t handled_access_fs;
    uint64_t handled_access_net; /* 6.7 */
    uint64_t scoped;             /* 6.12 */
};

struct path_beneath_attr {
    uint64_t allowed_access;
    int32_t parent_fd;
} __attribute__((packed));

PyDoc_STRVAR(landlock_create_ruleset_doc,
             "landlock_create_ruleset(2): a close-on-exec descriptor");

static PyObject *
do_landlock_create_ruleset(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"handled_access_fs", "handled_access_net", "scoped", NULL};
    unsigned long long access_fs = 0;
    unsigned long long access_net = 0;
    unsigned long long scoped = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&|O&O&:landlock_create_ruleset", names,
                                     mask64, &access_fs, mask64, &access_net, mask64, &scoped)) {
        return NULL;
    }
    struct ruleset_attr request = {access_fs, access_net, scoped};
    return int_or_errno(tripped(module, "landlock_create_ruleset")
                            ? -1
                            : syscall(SYS_landlock_create_ruleset, &request, sizeof request, 0));
}

PyDoc_STRVAR(landlock_add_path_doc,
             "landlock_add_rule(2), LANDLOCK_RULE_PATH_BENEATH: what is allowed below a path");

static PyObject *
do_landlock_add_path(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"ruleset_fd", "parent_fd", "allowed_access", NULL};
    int ruleset = -1;
    int parent = -1;
    unsigned long long allowed = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "iiO&:landlock_add_path", names, &ruleset,
                                     &parent, mask64, &allowed)) {
        return NULL;
    }
    struct path_beneath_attr request = {.allowed_access = allowed, .parent_fd = parent};
    return none_or_errno(tripped(module, "landlock_add_path")
                             ? -1
                             : syscall(SYS_landlock_add_rule, ruleset,
                                       DONJON_LANDLOCK_RULE_PATH_BENEATH, &request, 0));
}

PyDoc_STRVAR(landlock_restrict_self_doc, "landlock_restrict_self(2) for this thread");

static PyObject *
do_landlock_restrict_self(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"ruleset_fd", "flags", NULL};
    int ruleset = -1;
    unsigned int flags = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "i|I:landlock_restrict_self", names, &ruleset,
                                     &flags)) {
        return NULL;
    }
    return none_or_errno(tripped(module, "landlock_restrict_self")
                             ? -1
                             : syscall(SYS_landlock_restrict_self, ruleset, flags));
}

PyDoc_STRVAR(join_session_keyring_doc,
             "KEYCTL_JOIN_SESSION_KEYRING of keyctl(2): a new one without a name; its number");

static PyObject *
do_join_session_keyring(PyObject *module, PyObject *Py_UNUSED(unused))
{
    return int_or_errno(tripped(module, "join_session_keyring")
                            ? -1
                            : syscall(SYS_keyctl, DONJON_KEYCTL_JOIN_SESSION_KEYRING, NULL));
}

PyDoc_STRVAR(ioprio_set_doc, "ioprio_set(2)");

static PyObject *
do_ioprio_set(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"which", "who", "ioprio", NULL};
    int which = 0;
    int who = 0;
    int ioprio = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "iii:ioprio_set", names, &which, &who,
                                     &ioprio)) {
        return NULL;
    }
    return none_or_errno(
        tripped(module, "ioprio_set") ? -1 : syscall(SYS_ioprio_set, which, who, ioprio));
}

PyDoc_STRVAR(ioprio_get_doc, "ioprio_get(2)");

static PyObject *
do_ioprio_get(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"which", "who", NULL};
    int which = 0;
    int who = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "ii:ioprio_get", names, &which, &who)) {
        return NULL;
    }
    return int_or_errno(tripped(module, "ioprio_get") ? -1 : syscall(SYS_ioprio_get, which, who));
}

PyMethodDef confine_methods[] = {
    KEYWORDS(seccomp_filter),
    ONE(seccomp_notif_recv),
    KEYWORDS(seccomp_notif_continue),
    KEYWORDS(landlock_create_ruleset),
    KEYWORDS(landlock_add_path),
    KEYWORDS(landlock_restrict_self),
    NONE(join_session_keyring),
    KEYWORDS(ioprio_set),
    KEYWORDS(ioprio_get),
    {NULL, NULL, 0, NULL},
};
