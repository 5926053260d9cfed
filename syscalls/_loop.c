/* Loop devices: loop(4). A file as a block device, so that a file system in it can be mounted. */
#include "_linux.h"

PyDoc_STRVAR(loop_ctl_get_free_doc,
             "LOOP_CTL_GET_FREE of loop(4): the number of a device that is free, made if need be");

static PyObject *
do_loop_ctl_get_free(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"fd", NULL};
    int fd = -1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "i:loop_ctl_get_free", names, &fd)) {
        return NULL;
    }
    long result = -1;
    bool stop = false;
    if (!tripped(module, "loop_ctl_get_free")) {
        BLOCKING(result, stop, ioctl(fd, LOOP_CTL_GET_FREE));
    }
    return result < 0 ? raise_errno(stop, NULL, NULL) : int_or_errno(result);
}

PyDoc_STRVAR(loop_configure_doc,
             "LOOP_CONFIGURE of loop(4): make fd, a free device, show what backing has");

static PyObject *
do_loop_configure(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"fd", "backing", "flags", "name", NULL};
    int fd = -1;
    int backing = -1;
    unsigned int flags = 0;
    PyObject *name = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "iiI|O&:loop_configure", names, &fd, &backing,
                                     &flags, optional_path, &name)) {
        Py_XDECREF(name);
        return NULL;
    }
    struct loop_config config = {.fd = (__u32)backing, .info.lo_flags = flags};
    if (name != NULL) { /* shown by losetup(8); the last byte stays 0 */
        strncpy((char *)config.info.lo_file_name, PyBytes_AS_STRING(name), LO_NAME_SIZE - 1);
    }
    long result = -1;
    bool stop = false;
    if (!tripped(module, "loop_configure")) {
        BLOCKING(result, stop, ioctl(fd, LOOP_CONFIGURE, &config));
    }
    PyObject *outcome = result < 0 ? raise_errno(stop, name, NULL) : none_or_errno(result);
    Py_XDECREF(name);
    return outcome;
}

PyDoc_STRVAR(loop_clr_fd_doc, "LOOP_CLR_FD of loop(4): free the device once nobody has it open");

static PyObject *
do_loop_clr_fd(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"fd", NULL};
    int fd = -1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "i:loop_clr_fd", names, &fd)) {
        return NULL;
    }
    long result = -1;
    bool stop = false;
    if (!tripped(module, "loop_clr_fd")) {
        BLOCKING(result, stop, ioctl(fd, LOOP_CLR_FD));
    }
    return result < 0 ? raise_errno(stop, NULL, NULL) : none_or_errno(result);
}

PyMethodDef loop_methods[] = {
    KEYWORDS(loop_ctl_get_free),
    KEYWORDS(loop_configure),
    KEYWORDS(loop_clr_fd),
    {NULL, NULL, 0, NULL},
};
