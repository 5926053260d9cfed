/* Tun devices: the ioctls of linux/if_tun.h. */
#include "_linux.h"

#include <net/if.h>
#include <sys/ioctl.h>

PyDoc_STRVAR(tunsetiff_doc, "TUNSETIFF: make or take the device NAME; its name, as NAME may have "
                            "been a pattern like tun%d or empty");

static PyObject *
do_tunsetiff(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"fd", "name", "flags", NULL};
    int fd = -1;
    int flags = 0;
    const char *name = NULL;
    struct ifreq request = {0};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "isi:tunsetiff", names, &fd, &name, &flags)) {
        return NULL;
    }
    if (strlen(name) >= sizeof request.ifr_name) {
        errno = ENAMETOOLONG;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    strcpy(request.ifr_name, name);
    request.ifr_flags = (short)flags;
    if (tripped(module, "tunsetiff") || ioctl(fd, TUNSETIFF, &request) < 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return PyUnicode_DecodeFSDefault(request.ifr_name);
}

PyDoc_STRVAR(tungetiff_doc,
             "TUNGETIFF: (name, flags) of the device; flags are IFF_TUN, IFF_NO_PI, "
             "IFF_VNET_HDR and the like");

static PyObject *
do_tungetiff(PyObject *module, PyObject *arg)
{
    int fd = PyObject_AsFileDescriptor(arg);
    struct ifreq request = {0};
    if (fd < 0) {
        return NULL;
    }
    if (tripped(module, "tungetiff") || ioctl(fd, TUNGETIFF, &request) < 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    request.ifr_name[sizeof request.ifr_name - 1] = '\0';
    return Py_BuildValue("(NH)", PyUnicode_DecodeFSDefault(request.ifr_name),
                         (unsigned short)request.ifr_flags);
}

PyDoc_STRVAR(tunsetoffload_doc,
             "TUNSETOFFLOAD: what the reader of the device accepts, of TUN_F_*");

static PyObject *
do_tunsetoffload(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"fd", "flags", NULL};
    int fd = -1;
    unsigned int flags = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "iI:tunsetoffload", names, &fd, &flags)) {
        return NULL;
    }
    return none_or_errno(
        tripped(module, "tunsetoffload") ? -1 : ioctl(fd, TUNSETOFFLOAD, (unsigned long)flags));
}

PyDoc_STRVAR(tunsetvnethdrsz_doc, "TUNSETVNETHDRSZ: bytes of the virtio header before a packet");

static PyObject *
do_tunsetvnethdrsz(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"fd", "size", NULL};
    int fd = -1;
    int size = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "ii:tunsetvnethdrsz", names, &fd, &size)) {
        return NULL;
    }
    return none_or_errno(tripped(module, "tunsetvnethdrsz") ? -1
                                                            : ioctl(fd, TUNSETVNETHDRSZ, &size));
}

PyMethodDef tun_methods[] = {
    KEYWORDS(tunsetiff),       ONE(tungetiff),        KEYWORDS(tunsetoffload),
    KEYWORDS(tunsetvnethdrsz), {NULL, NULL, 0, NULL},
};
