/* donjon.tuntap._plane: the data plane for Python, which lends it descriptors.
 *
 *     class Plane:
 *         def __new__(cls, counters: writable buffer, secret: int, bridge: bool): ...
 *
 * One thread uses a Plane. run() is without the GIL until there is something for the caller.
 */
#include "_counted.h"

#include <errno.h>
#include <stdlib.h>

#include "plane.h"
#include "seal.h"

typedef struct {
    PyObject_HEAD Py_buffer memory;
    struct plane *plane;
} Plane;

static void
Plane_dealloc(Plane *self)
{
    PyTypeObject *type = Py_TYPE(self);

    if (self->plane != NULL)
        plane_free(self->plane);
    free(self->plane);
    if (self->memory.obj != NULL)
        PyBuffer_Release(&self->memory);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
Plane_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"counters", "secret", "bridge", NULL};
    unsigned long long secret = 0;
    int bridge = 0;
    Plane *self = (Plane *)type->tp_alloc(type, 0);

    if (self == NULL)
        return NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "w*K|p:Plane", names, &self->memory, &secret,
                                     &bridge))
        goto fail;
    if ((size_t)self->memory.len < PLANE_PORTS * sizeof(struct counters)) {
        PyErr_SetString(PyExc_ValueError, "Plane: the memory of the counters is too small");
        goto fail;
    }
    self->plane = calloc(1, sizeof(*self->plane));
    if (self->plane == NULL || plane_init(self->plane, self->memory.buf, secret, bridge) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        goto fail;
    }
    return (PyObject *)self;
fail:
    Py_DECREF(self);
    return NULL;
}

PyDoc_STRVAR(add_tun_doc, "Add a tun device; limits are rate and burst of each direction");

static PyObject *
Plane_add_tun(Plane *self, PyObject *args)
{
    unsigned int number = 0;
    int fd = -1;
    unsigned long long given[4] = {0};

    if (!PyArg_ParseTuple(args, "Ii(KKKK):add_tun", &number, &fd, &given[0], &given[1], &given[2],
                          &given[3]))
        return NULL;
    struct port *port = plane_add(self->plane, number, fd, PORT_TUN);
    if (port == NULL)
        return PyErr_SetFromErrno(PyExc_OSError);
    uint64_t limits[4] = {given[0], given[1], given[2], given[3]};
    if (plane_limit(port, limits) < 0) {
        plane_remove(self->plane, number);
        return PyErr_NoMemory();
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(add_stream_doc, "Add a stream of frames, whose first addresses become its own");

static PyObject *
Plane_add_stream(Plane *self, PyObject *args)
{
    unsigned int number = 0;
    int fd = -1;

    if (!PyArg_ParseTuple(args, "Ii:add_stream", &number, &fd))
        return NULL;
    struct port *port = plane_add(self->plane, number, fd, PORT_STREAM);
    if (port == NULL)
        return PyErr_SetFromErrno(PyExc_OSError);
    port->learns = true;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(cap_doc, "Let a port have so many connections at once; 0 is as many as all");

static PyObject *
Plane_cap(Plane *self, PyObject *args)
{
    unsigned int number = 0;
    unsigned int connections = 0;

    if (!PyArg_ParseTuple(args, "II:cap", &number, &connections))
        return NULL;
    plane_cap(self->plane, number, connections);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(add_trunk_doc, "Add a stream of frames of another router's; it has what own() gives");

static PyObject *
Plane_add_trunk(Plane *self, PyObject *args)
{
    unsigned int number = 0;
    int fd = -1;

    if (!PyArg_ParseTuple(args, "Ii:add_trunk", &number, &fd))
        return NULL;
    struct port *port = plane_add(self->plane, number, fd, PORT_STREAM);
    if (port == NULL)
        return PyErr_SetFromErrno(PyExc_OSError);
    port->outside = true;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(allot_doc, "Let a port alone own a network: 16 bytes of it, and how many bits");

static PyObject *
Plane_allot(Plane *self, PyObject *args)
{
    unsigned int number = 0;
    Py_buffer address = {0};
    struct prefix prefix = {.bits = 0};

    if (!PyArg_ParseTuple(args, "Iy*b:allot", &number, &address, &prefix.bits))
        return NULL;
    PyObject *result = NULL;
    if (address.len != sizeof(prefix.address) || prefix.bits > 128 || number >= PLANE_PORTS) {
        PyErr_SetString(PyExc_ValueError, "allot: not a port and a network");
    } else {
        memcpy(prefix.address, address.buf, sizeof(prefix.address));
        result = PyBool_FromLong(networks_add(&self->plane->allotted, &prefix, number));
    }
    PyBuffer_Release(&address);
    return result;
}

PyDoc_STRVAR(disallot_doc, "Take all networks from a port");

static PyObject *
Plane_disallot(Plane *self, PyObject *args)
{
    unsigned int number = 0;

    if (!PyArg_ParseTuple(args, "I:disallot", &number))
        return NULL;
    networks_forget(&self->plane->allotted, number);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(add_gateway_doc, "Add a socket of UDP, and the routes that go through it");

static PyObject *
Plane_add_gateway(Plane *self, PyObject *args)
{
    unsigned int number = 0;
    int fd = -1;
    Py_buffer packed = {0};
    struct routes routes = {.count = 0};
    bool good = true;

    if (!PyArg_ParseTuple(args, "Iiy*:add_gateway", &number, &fd, &packed))
        return NULL;
    size_t length = (size_t)packed.len;
    for (size_t at = 0; good && at < length; at += sizeof(struct packed_route)) {
        struct packed_route one;

        good = sizeof(one) <= length - at;
        if (good) {
            memcpy(&one, (const uint8_t *)packed.buf + at, sizeof(one));
            good = routes_add(&routes, &one);
        }
    }
    PyBuffer_Release(&packed);
    if (!good) {
        PyErr_SetString(PyExc_ValueError, "add_gateway: these are no routes");
        return NULL;
    }
    if (plane_add(self->plane, number, fd, PORT_GATEWAY) == NULL)
        return PyErr_SetFromErrno(PyExc_OSError);
    self->plane->routes = routes;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(remove_doc, "Forget a port and its addresses");

static PyObject *
Plane_remove(Plane *self, PyObject *args)
{
    unsigned int number = 0;

    if (!PyArg_ParseTuple(args, "I:remove", &number))
        return NULL;
    plane_remove(self->plane, number);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(own_doc, "Give a port an address of 16 bytes; whether it is the port's now");

static PyObject *
Plane_own(Plane *self, PyObject *args)
{
    unsigned int number = 0;
    Py_buffer address = {0};

    if (!PyArg_ParseTuple(args, "Iy*:own", &number, &address))
        return NULL;
    PyObject *result = NULL;
    if (address.len != 16 || number >= PLANE_PORTS)
        PyErr_SetString(PyExc_ValueError, "own: not a port and 16 bytes");
    else
        result = PyBool_FromLong(plane_own(self->plane, number, (const uint8_t *)address.buf));
    PyBuffer_Release(&address);
    return result;
}

PyDoc_STRVAR(addresses_doc, "The addresses of a port, 16 bytes each");

static PyObject *
Plane_addresses(Plane *self, PyObject *args)
{
    const struct addresses *addresses = &self->plane->addresses;
    unsigned int number = 0;

    if (!PyArg_ParseTuple(args, "I:addresses", &number))
        return NULL;
    PyObject *found = PyList_New(0);
    for (size_t i = 0; found != NULL && i <= addresses->mask; i++) {
        const struct address_slot *slot = &addresses->slots[i];

        if (slot->owner != number || slot->owner == NOBODY)
            continue;
        PyObject *address = PyBytes_FromStringAndSize((const char *)slot->address, 16);
        if (address == NULL || PyList_Append(found, address) < 0)
            Py_CLEAR(found);
        Py_XDECREF(address);
    }
    return found;
}

PyDoc_STRVAR(disown_doc, "Take all addresses from a port");

static PyObject *
Plane_disown(Plane *self, PyObject *args)
{
    unsigned int number = 0;

    if (!PyArg_ParseTuple(args, "I:disown", &number))
        return NULL;
    addresses_forget(&self->plane->addresses, number);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(watch_doc, "Have run() tell when a descriptor of the caller's is readable");

static PyObject *
Plane_watch(Plane *self, PyObject *arg)
{
    int fd = PyObject_AsFileDescriptor(arg);

    if (fd < 0)
        return NULL;
    if (plane_watch(self->plane, fd) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(unwatch_doc, "Do not, any more");

static PyObject *
Plane_unwatch(Plane *self, PyObject *arg)
{
    int fd = PyObject_AsFileDescriptor(arg);

    if (fd < 0)
        return NULL;
    if (plane_unwatch(self->plane, fd) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(load_doc,
             "Put a table of rules in force, or raise ValueError and leave all as it is");

static PyObject *
Plane_load(Plane *self, PyObject *arg)
{
    Py_buffer table = {0};
    const char *why = "";

    if (PyObject_GetBuffer(arg, &table, PyBUF_SIMPLE) < 0)
        return NULL;
    notes_send(self->plane); /* they name rules by their old places */
    int failed = firewall_load(table.buf, (size_t)table.len, &self->plane->firewall, &why);
    PyBuffer_Release(&table);
    if (self->plane->firewall != NULL) {
        firewall_limit_notes(self->plane->firewall, NOTE_INTERVAL_NS, NOTE_BURST);
        firewall_caps(self->plane->firewall, self->plane->caps);
    }
    if (failed < 0) {
        PyErr_SetString(PyExc_ValueError, why);
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(note_doc, "Tell on a socket what rules note: messages of struct note[]");

static PyObject *
Plane_note(Plane *self, PyObject *arg)
{
    int fd = PyObject_AsFileDescriptor(arg);

    if (fd < 0)
        return NULL;
    self->plane->notes = fd;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(rule_counts_doc, "(identity, packets, bytes) of each rule");

static PyObject *
Plane_rule_counts(Plane *self, PyObject *Py_UNUSED(unused))
{
    return counted_rules(self->plane->firewall);
}

PyDoc_STRVAR(restore_doc, "Add what a rule counted before a restart");

static PyObject *
Plane_restore(Plane *self, PyObject *args)
{
    unsigned long long identity = 0;
    unsigned long long packets = 0;
    unsigned long long bytes = 0;

    if (!PyArg_ParseTuple(args, "KKK:restore", &identity, &packets, &bytes))
        return NULL;
    struct firewall_count count = {identity, packets, bytes};
    bool known =
        self->plane->firewall != NULL && firewall_restore(self->plane->firewall, &count) == 0;
    return PyBool_FromLong(known);
}

PyDoc_STRVAR(totals_doc, "What all rules did, by the names of struct firewall_totals");

static PyObject *
Plane_totals(Plane *self, PyObject *Py_UNUSED(unused))
{
    return counted_totals(self->plane->firewall);
}

PyDoc_STRVAR(capture_doc, "Give packets of a port to a SEQPACKET socket, within bounds");

static PyObject *
Plane_capture(Plane *self, PyObject *args)
{
    struct capture *capture = &self->plane->capture;
    unsigned int number = 0;
    int fd = -1;
    unsigned long long packets = 0;
    unsigned long long bytes = 0;
    unsigned long long seconds = 0;

    if (!PyArg_ParseTuple(args, "IiKKK:capture", &number, &fd, &packets, &bytes, &seconds))
        return NULL;
    if (number >= PLANE_PORTS || self->plane->ports[number] == NULL || seconds > UINT32_MAX) {
        PyErr_SetString(PyExc_ValueError, "capture: no such port, or too long");
        return NULL;
    }
    capture_end(capture);
    *capture = (struct capture){
        .port = number,
        .fd = fd,
        .packets_left = packets,
        .bytes_left = bytes,
        .until = plane_clock() + seconds * 1000000000U,
    };
    Py_RETURN_NONE;
}

PyDoc_STRVAR(end_capture_doc, "End the capture: how many packets were captured, and were lost");

static PyObject *
Plane_end_capture(Plane *self, PyObject *Py_UNUSED(unused))
{
    struct capture *capture = &self->plane->capture;

    capture_end(capture);
    return Py_BuildValue("(KK)", (unsigned long long)capture->captured,
                         (unsigned long long)capture->lost);
}

/** The events of a turn as a list of (gone, number). */
static PyObject *
list_events(const struct plane *plane)
{
    PyObject *events = PyList_New((Py_ssize_t)plane->event_count);

    for (size_t i = 0; events != NULL && i < plane->event_count; i++) {
        PyObject *event = Py_BuildValue("(NI)", PyBool_FromLong(plane->events[i].gone),
                                        (unsigned int)plane->events[i].number);
        if (event == NULL)
            Py_CLEAR(events);
        else
            PyList_SET_ITEM(events, (Py_ssize_t)i, event);
    }
    return events;
}

PyDoc_STRVAR(run_doc, "Pass packets on until there is something for the caller: a list of "
                      "(False, descriptor) that is readable, (True, port) that is dead");

static PyObject *
Plane_run(Plane *self, PyObject *Py_UNUSED(unused))
{
    struct plane *plane = self->plane;
    int failed = 0;

    plane->event_count = 0;
    while (plane->event_count == 0) {
        Py_BEGIN_ALLOW_THREADS do failed = plane_turn(plane);
        while (failed == 0 && plane->event_count == 0)
            ;
        Py_END_ALLOW_THREADS if (failed < 0 &&
                                 errno != EINTR) return PyErr_SetFromErrno(PyExc_OSError);
        if (failed < 0 && PyErr_CheckSignals() < 0)
            return NULL;
    }
    return list_events(plane);
}

static PyMethodDef plane_methods[] = {
    {"add_tun", (PyCFunction)Plane_add_tun, METH_VARARGS, add_tun_doc},
    {"add_stream", (PyCFunction)Plane_add_stream, METH_VARARGS, add_stream_doc},
    {"cap", (PyCFunction)Plane_cap, METH_VARARGS, cap_doc},
    {"add_trunk", (PyCFunction)Plane_add_trunk, METH_VARARGS, add_trunk_doc},
    {"allot", (PyCFunction)Plane_allot, METH_VARARGS, allot_doc},
    {"disallot", (PyCFunction)Plane_disallot, METH_VARARGS, disallot_doc},
    {"add_gateway", (PyCFunction)Plane_add_gateway, METH_VARARGS, add_gateway_doc},
    {"remove", (PyCFunction)Plane_remove, METH_VARARGS, remove_doc},
    {"own", (PyCFunction)Plane_own, METH_VARARGS, own_doc},
    {"disown", (PyCFunction)Plane_disown, METH_VARARGS, disown_doc},
    {"addresses", (PyCFunction)Plane_addresses, METH_VARARGS, addresses_doc},
    {"watch", (PyCFunction)Plane_watch, METH_O, watch_doc},
    {"unwatch", (PyCFunction)Plane_unwatch, METH_O, unwatch_doc},
    {"load", (PyCFunction)Plane_load, METH_O, load_doc},
    {"note", (PyCFunction)Plane_note, METH_O, note_doc},
    {"rule_counts", (PyCFunction)Plane_rule_counts, METH_NOARGS, rule_counts_doc},
    {"restore", (PyCFunction)Plane_restore, METH_VARARGS, restore_doc},
    {"totals", (PyCFunction)Plane_totals, METH_NOARGS, totals_doc},
    {"capture", (PyCFunction)Plane_capture, METH_VARARGS, capture_doc},
    {"end_capture", (PyCFunction)Plane_end_capture, METH_NOARGS, end_capture_doc},
    {"run", (PyCFunction)Plane_run, METH_NOARGS, run_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot plane_slots[] = {
    {Py_tp_doc, "Ports, addresses, rules, and the loop that passes packets between them."},
    {Py_tp_new, Plane_new},
    {Py_tp_dealloc, Plane_dealloc},
    {Py_tp_methods, plane_methods},
    {0, NULL},
};

static PyType_Spec plane_spec = {
    .name = "donjon.tuntap._plane.Plane",
    .basicsize = sizeof(Plane),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = plane_slots,
};

PyDoc_STRVAR(seal_doc,
             "The filter of system calls that is left to a router, or to who holds links to other "
             "hosts: struct sock_filter[]");

static PyObject *
seal(PyObject *Py_UNUSED(module), PyObject *args)
{
    struct sock_filter program[SEAL_MOST];
    int links = 0;

    if (!PyArg_ParseTuple(args, "|p:seal", &links))
        return NULL;
    size_t count = seal_program(program, links);
    return PyBytes_FromStringAndSize((const char *)program,
                                     (Py_ssize_t)(count * sizeof(program[0])));
}

static PyMethodDef module_methods[] = {
    {"seal", seal, METH_VARARGS, seal_doc},
    {NULL, NULL, 0, NULL},
};

static int
module_exec(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &plane_spec, NULL);

    if (type == NULL)
        return -1;
    int failed = PyModule_AddType(module, (PyTypeObject *)type);
    Py_DECREF(type);
    return failed < 0 ? -1 : PyModule_AddIntConstant(module, "CAUSES", DROP_CAUSES);
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
    {0, NULL},
};

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_plane",
    .m_doc = "The data plane of the TunTap router.",
    .m_methods = module_methods,
    .m_slots = module_slots,
};

PyMODINIT_FUNC
PyInit__plane(void)
{
    return PyModuleDef_Init(&module_def);
}
