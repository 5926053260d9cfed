/* _firewall.c - the firewall for Python: its tests, its benchmark, and rules tried out by hand. */
#include "_counted.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

static_assert(sizeof(struct flow) == 100, "donjon.tuntap.flow packs 100 bytes");

struct object {
    PyObject_HEAD struct firewall *firewall;
};

static struct firewall *
firewall_of(PyObject *self)
{
    return ((struct object *)self)->firewall;
}

static int
load(struct firewall **firewall, const Py_buffer *table)
{
    const char *why;

    if (firewall_load(table->buf, (size_t)table->len, firewall, &why) == 0)
        return 0;
    PyErr_SetString(PyExc_ValueError, why);
    return -1;
}

static PyObject *
object_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"table", NULL};
    Py_buffer table;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y*", names, &table))
        return NULL;
    PyObject *self = type->tp_alloc(type, 0);
    if (self != NULL && load(&((struct object *)self)->firewall, &table) != 0)
        Py_CLEAR(self);
    PyBuffer_Release(&table);
    return self;
}

static void
object_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    firewall_free(firewall_of(self));
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
object_replace(PyObject *self, PyObject *args)
{
    Py_buffer table;

    if (!PyArg_ParseTuple(args, "y*", &table))
        return NULL;
    int result = load(&((struct object *)self)->firewall, &table);
    PyBuffer_Release(&table);
    return result == 0 ? Py_NewRef(Py_None) : NULL;
}

/** Take a packed flow. Bytes that C reads as bool must be 0 or 1. */
static int
unpack(const void *bytes, struct flow *flow)
{
    static const size_t booleans[] = {
        offsetof(struct flow, first_fragment),
        offsetof(struct flow, not_first_fragment),
        offsetof(struct flow, quoted.present),
    };

    for (size_t i = 0; i < sizeof booleans / sizeof *booleans; i++)
        if (((const unsigned char *)bytes)[booleans[i]] > 1) {
            PyErr_SetString(PyExc_ValueError, "a packed flow has a bool beyond 1");
            return -1;
        }
    memcpy(flow, bytes, sizeof *flow);
    return 0;
}

static PyObject *
object_check(PyObject *self, PyObject *args)
{
    int out;
    Py_buffer packed;
    unsigned long long now_ns;
    struct flow flow;

    if (!PyArg_ParseTuple(args, "py*K", &out, &packed, &now_ns))
        return NULL;
    int result = -1;
    if (packed.len != (Py_ssize_t)sizeof flow)
        PyErr_SetString(PyExc_ValueError, "a packed flow has another size");
    else
        result = unpack(packed.buf, &flow);
    PyBuffer_Release(&packed);
    if (result != 0)
        return NULL;
    return PyLong_FromLong((long)firewall_check(firewall_of(self), out ? OUT : IN, &flow, now_ns));
}

/** Check an array of flows over and over. Return: how many were accepted. */
static unsigned long long
check_array(struct firewall *firewall, enum direction direction, const struct flow *flows,
            size_t count, unsigned long long checks, unsigned long long now_ns)
{
    unsigned long long accepted = 0;
    size_t at = 0;

    for (unsigned long long i = 0; i < checks; i++) {
        accepted += firewall_check(firewall, direction, &flows[at], now_ns) == ACCEPT;
        at = at + 1 == count ? 0 : at + 1;
    }
    return accepted;
}

static PyObject *
object_check_many(PyObject *self, PyObject *args)
{
    int out;
    Py_buffer packed;
    unsigned long long checks;
    unsigned long long now_ns;
    PyObject *result = NULL;

    if (!PyArg_ParseTuple(args, "py*KK", &out, &packed, &checks, &now_ns))
        return NULL;
    size_t count = (size_t)packed.len / sizeof(struct flow);
    struct flow *flows = PyMem_Calloc(count + 1, sizeof *flows);
    if (flows == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    if (count == 0 || (size_t)packed.len % sizeof *flows != 0) {
        PyErr_SetString(PyExc_ValueError, "packed flows have another size");
        goto done;
    }
    for (size_t i = 0; i < count; i++)
        if (unpack((const char *)packed.buf + i * sizeof *flows, &flows[i]) != 0)
            goto done;
    result = PyLong_FromUnsignedLongLong(
        check_array(firewall_of(self), out ? OUT : IN, flows, count, checks, now_ns));
done:
    PyMem_Free(flows);
    PyBuffer_Release(&packed);
    return result;
}

static PyObject *
object_forget(PyObject *self, PyObject *args)
{
    unsigned int jail;

    if (!PyArg_ParseTuple(args, "I", &jail))
        return NULL;
    firewall_forget(firewall_of(self), jail);
    Py_RETURN_NONE;
}

static PyObject *
object_counts(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return counted_rules(firewall_of(self));
}

static PyObject *
object_restore(PyObject *self, PyObject *args)
{
    unsigned long long identity;
    unsigned long long packets;
    unsigned long long bytes;

    if (!PyArg_ParseTuple(args, "KKK", &identity, &packets, &bytes))
        return NULL;
    struct firewall_count count = {identity, packets, bytes};
    return PyBool_FromLong(firewall_restore(firewall_of(self), &count) == 0);
}

static PyObject *
object_totals(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return counted_totals(firewall_of(self));
}

static PyObject *
object_note(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct firewall_note note;

    if (!firewall_note(firewall_of(self), &note))
        Py_RETURN_NONE;
    return Py_BuildValue("KIOy#", (unsigned long long)note.now_ns, note.rule,
                         note.direction == OUT ? Py_True : Py_False, (const char *)&note.flow,
                         (Py_ssize_t)sizeof note.flow);
}

static PyMethodDef object_methods[] = {
    {"replace", object_replace, METH_VARARGS, NULL},
    {"check", object_check, METH_VARARGS, NULL},
    {"check_many", object_check_many, METH_VARARGS, NULL},
    {"forget", object_forget, METH_VARARGS, NULL},
    {"counts", object_counts, METH_NOARGS, NULL},
    {"restore", object_restore, METH_VARARGS, NULL},
    {"totals", object_totals, METH_NOARGS, NULL},
    {"note", object_note, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot object_slots[] = {
    {Py_tp_new, object_new},
    {Py_tp_dealloc, object_dealloc},
    {Py_tp_methods, object_methods},
    {0, NULL},
};

static PyType_Spec object_spec = {
    .name = "donjon.tuntap._firewall.Firewall",
    .basicsize = sizeof(struct object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = object_slots,
};

static int
module_exec(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &object_spec, NULL);

    if (type == NULL)
        return -1;
    int result = PyModule_AddType(module, (PyTypeObject *)type);
    Py_DECREF(type);
    return result;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#ifdef Py_MOD_PER_INTERPRETER_GIL_SUPPORTED
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
    {0, NULL},
};

static struct PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_firewall",
    .m_doc = "The firewall of the TunTap router. See _firewall.pyi.",
    .m_slots = module_slots,
};

PyMODINIT_FUNC
PyInit__firewall(void)
{
    return PyModuleDef_Init(&module_definition);
}
