/* Mounts: mount(2), umount2(2), pivot_root(2) and mounts by descriptor. */
#include "_linux.h"

PyDoc_STRVAR(mount_doc,
             "mount(2): source, target, filesystemtype, mountflags, data; None is NULL");

static PyObject *
do_mount(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"source", "target", "filesystemtype", "mountflags", "data", NULL};
    PyObject *source = NULL;
    PyObject *target = NULL;
    PyObject *type = NULL;
    PyObject *data = NULL;
    unsigned long long flags = 0;
    PyObject *outcome = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&O&|O&O&O&:mount", names, optional_path,
                                     &source, PyUnicode_FSConverter, &target, optional_path, &type,
                                     mask64, &flags, optional_path, &data)) {
        goto done;
    }
    long result = -1;
    bool stop = false;
    if (!tripped(module, "mount")) {
        const char *from = text_or_null(source);
        const char *to = text_or_null(target);
        const char *kind = text_or_null(type);
        const char *options = text_or_null(data);
        BLOCKING(result, stop, syscall(SYS_mount, from, to, kind, (unsigned long)flags, options));
    }
    outcome = result < 0 ? (source == NULL ? raise_errno(stop, target, NULL)
                                           : raise_errno(stop, source, target))
                         : none_or_errno(result);
done:
    Py_XDECREF(source);
    Py_XDECREF(target);
    Py_XDECREF(type);
    Py_XDECREF(data);
    return outcome;
}

PyDoc_STRVAR(umount2_doc, "umount2(2)");

static PyObject *
do_umount2(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"target", "flags", NULL};
    PyObject *target = NULL;
    int flags = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&|i:umount2", names, PyUnicode_FSConverter,
                                     &target, &flags)) {
        return NULL;
    }
    long result = -1;
    bool stop = false;
    if (!tripped(module, "umount2")) {
        const char *path = text_or_null(target);
        BLOCKING(result, stop, syscall(SYS_umount2, path, flags));
    }
    PyObject *outcome = result < 0 ? raise_errno(stop, target, NULL) : none_or_errno(result);
    Py_DECREF(target);
    return outcome;
}

PyDoc_STRVAR(pivot_root_doc, "pivot_root(2)");

static PyObject *
do_pivot_root(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"new_root", "put_old", NULL};
    PyObject *new_root = NULL;
    PyObject *put_old = NULL;
    PyObject *outcome = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&O&:pivot_root", names, PyUnicode_FSConverter,
                                     &new_root, PyUnicode_FSConverter, &put_old)) {
        goto done;
    }
    long result = -1;
    bool stop = false;
    if (!tripped(module, "pivot_root")) {
        const char *new_path = text_or_null(new_root);
        const char *old_path = text_or_null(put_old);
        BLOCKING(result, stop, syscall(SYS_pivot_root, new_path, old_path));
    }
    outcome = result < 0 ? raise_errno(stop, new_root, put_old) : none_or_errno(result);
done:
    Py_XDECREF(new_root);
    Py_XDECREF(put_old);
    return outcome;
}

PyDoc_STRVAR(open_tree_doc,
             "open_tree(2): a close-on-exec descriptor of a mount, or of a detached copy of it");

static PyObject *
do_open_tree(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"dirfd", "path", "flags", NULL};
    int dirfd = -1;
    PyObject *path = NULL;
    unsigned int flags = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "iO&|I:open_tree", names, &dirfd,
                                     PyUnicode_FSConverter, &path, &flags)) {
        return NULL;
    }
    long result = -1;
    bool stop = false;
    if (!tripped(module, "open_tree")) {
        const char *name = text_or_null(path);
        BLOCKING(result, stop,
                 syscall(SYS_open_tree, dirfd, name, flags | (unsigned int)OPEN_TREE_CLOEXEC));
    }
    PyObject *outcome = result < 0 ? raise_errno(stop, path, NULL) : int_or_errno(result);
    Py_DECREF(path);
    return outcome;
}

PyDoc_STRVAR(move_mount_doc, "move_mount(2)");

static PyObject *
do_move_mount(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"from_dirfd", "from_path", "to_dirfd", "to_path", "flags", NULL};
    int from_dirfd = -1;
    int to_dirfd = -1;
    PyObject *from_path = NULL;
    PyObject *to_path = NULL;
    unsigned int flags = 0;
    PyObject *outcome = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "iO&iO&|I:move_mount", names, &from_dirfd,
                                     PyUnicode_FSConverter, &from_path, &to_dirfd,
                                     PyUnicode_FSConverter, &to_path, &flags)) {
        goto done;
    }
    long result = -1;
    bool stop = false;
    if (!tripped(module, "move_mount")) {
        const char *from = text_or_null(from_path);
        const char *to = text_or_null(to_path);
        BLOCKING(result, stop, syscall(SYS_move_mount, from_dirfd, from, to_dirfd, to, flags));
    }
    outcome = result < 0 ? raise_errno(stop, from_path, to_path) : none_or_errno(result);
done:
    Py_XDECREF(from_path);
    Py_XDECREF(to_path);
    return outcome;
}

PyDoc_STRVAR(mount_setattr_doc, "mount_setattr(2)");

static PyObject *
do_mount_setattr(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"dirfd",    "path",        "flags",     "attr_set",
                            "attr_clr", "propagation", "userns_fd", NULL};
    int dirfd = -1;
    PyObject *path = NULL;
    unsigned int flags = 0;
    unsigned long long set = 0;
    unsigned long long clear = 0;
    unsigned long long propagation = 0;
    unsigned long long userns_fd = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "iO&|I$O&O&O&O&:mount_setattr", names, &dirfd,
                                     PyUnicode_FSConverter, &path, &flags, mask64, &set, mask64,
                                     &clear, mask64, &propagation, mask64, &userns_fd)) {
        Py_XDECREF(path);
        return NULL;
    }
    struct mount_attr attr = {
        .attr_set = set, .attr_clr = clear, .propagation = propagation, .userns_fd = userns_fd};
    long result = -1;
    bool stop = false;
    if (!tripped(module, "mount_setattr")) {
        const char *name = text_or_null(path);
        BLOCKING(result, stop, syscall(SYS_mount_setattr, dirfd, name, flags, &attr, sizeof attr));
    }
    PyObject *outcome = result < 0 ? raise_errno(stop, path, NULL) : none_or_errno(result);
    Py_DECREF(path);
    return outcome;
}

PyDoc_STRVAR(fsopen_doc,
             "fsopen(2): a close-on-exec descriptor of a file system being configured");

static PyObject *
do_fsopen(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"fsname", "flags", NULL};
    const char *fsname = NULL;
    unsigned int flags = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "s|I:fsopen", names, &fsname, &flags)) {
        return NULL;
    }
    long result = -1;
    bool stop = false;
    if (!tripped(module, "fsopen")) {
        BLOCKING(result, stop, syscall(SYS_fsopen, fsname, flags | (unsigned int)FSOPEN_CLOEXEC));
    }
    return result < 0 ? raise_errno(stop, NULL, NULL) : int_or_errno(result);
}

PyDoc_STRVAR(fsconfig_doc,
             "fsconfig(2): read(2) on fd gives the kernel's own words after a failure");

static PyObject *
do_fsconfig(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"fd", "cmd", "key", "value", "aux", NULL};
    int fd = -1;
    unsigned int cmd = 0;
    const char *key = NULL;
    PyObject *value = NULL;
    int aux = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "iI|zO&i:fsconfig", names, &fd, &cmd, &key,
                                     optional_path, &value, &aux)) {
        Py_XDECREF(value);
        return NULL;
    }
    if (cmd == FSCONFIG_SET_BINARY) {
        aux = value == NULL ? 0 : (int)PyBytes_GET_SIZE(value); /* never more than there is */
    }
    long result = -1;
    bool stop = false;
    if (!tripped(module, "fsconfig")) {
        const char *text = text_or_null(value);
        BLOCKING(result, stop, syscall(SYS_fsconfig, fd, cmd, key, text, aux));
    }
    PyObject *outcome = result < 0 ? raise_errno(stop, NULL, NULL) : none_or_errno(result);
    Py_XDECREF(value);
    return outcome;
}

PyDoc_STRVAR(fsmount_doc, "fsmount(2): a close-on-exec descriptor of a detached mount");

static PyObject *
do_fsmount(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"fsfd", "flags", "attr_flags", NULL};
    int fsfd = -1;
    unsigned int flags = 0;
    unsigned int attr_flags = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "i|II:fsmount", names, &fsfd, &flags,
                                     &attr_flags)) {
        return NULL;
    }
    long result = -1;
    bool stop = false;
    if (!tripped(module, "fsmount")) {
        BLOCKING(result, stop, syscall(SYS_fsmount, fsfd, flags | FSMOUNT_CLOEXEC, attr_flags));
    }
    return result < 0 ? raise_errno(stop, NULL, NULL) : int_or_errno(result);
}

PyMethodDef mount_methods[] = {
    KEYWORDS(mount),      KEYWORDS(umount2),       KEYWORDS(pivot_root), KEYWORDS(open_tree),
    KEYWORDS(move_mount), KEYWORDS(mount_setattr), KEYWORDS(fsopen),     KEYWORDS(fsconfig),
    KEYWORDS(fsmount),    {NULL, NULL, 0, NULL},
};
