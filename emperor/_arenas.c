/* _arenas.c - the interpreter's objects in one range of memory, on huge pages. See _arenas.pyi.
 *
 * CPython takes memory for objects an arena at a time (obmalloc.c), each a mapping between others.
 * In one range they can lie on huge pages, and fork(2) copies one entry of a page table for each
 * of these instead of 512. The same allocator gives the chunks of 16 KiB in which frames are
 * (_PyObject_VirtualAlloc, since 3.11), which come and go with the depth of calls: in the range
 * they would use it up, and leave holes in which no page can be huge.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>

#ifndef MADV_COLLAPSE /* 6.1 */
#define MADV_COLLAPSE 25
#endif

enum { HUGE_PAGE = 2 << 20, ROOM = 48 << 20, LEAST_ARENA = 256 << 10 };

/* The range, and where its unused part begins. There is one for all of a process's objects. */
static struct {
    unsigned char *start;
    unsigned char *unused;
    unsigned char *end;
    bool settled;
} range;

static unsigned char *
rounded_up(unsigned char *address)
{
    return address + (-(uintptr_t)address & (HUGE_PAGE - 1));
}

static void *
take(void *Py_UNUSED(context), size_t size)
{
    if (size >= LEAST_ARENA && size <= (size_t)(range.end - range.unused)) {
        void *arena = range.unused;
        range.unused += size;
        return arena;
    }
    void *arena = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return arena == MAP_FAILED ? NULL : arena;
}

/* What was mapped before there was a range comes back here too. */
static void
give_back(void *Py_UNUSED(context), void *arena, size_t size)
{
    (void)munmap(arena, size);
}

PyDoc_STRVAR(gather_doc, "gather(): make the range, and let new objects lie in it");

static PyObject *
do_gather(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    if (range.start != NULL) {
        Py_RETURN_TRUE;
    }
    size_t size = (size_t)ROOM + HUGE_PAGE;
    unsigned char *found = mmap(NULL, size, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (found == MAP_FAILED) { /* little memory: objects lie where they find room */
        Py_RETURN_FALSE;
    }
    range.start = range.unused = rounded_up(found);
    range.end = range.start + ROOM;
    PyObjectArenaAllocator allocator = {.ctx = NULL, .alloc = take, .free = give_back};
    PyObject_SetArenaAllocator(&allocator);
    Py_RETURN_TRUE;
}

PyDoc_STRVAR(settle_doc,
             "settle(): put what is in the range on huge pages, and give back the rest");

static PyObject *
do_settle(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(unused))
{
    if (range.start == NULL || range.settled) { /* a newborn shares pages that are settled */
        Py_RETURN_FALSE;
    }
    unsigned char *used = rounded_up(range.unused);
    range.settled = true;
    (void)munmap(used, (size_t)(range.end - used));
    range.end = used;
    bool some = false; /* one by one: the first that cannot be would end it for those behind it */
    for (unsigned char *page = range.start; page < used; page += HUGE_PAGE) {
        some = madvise(page, HUGE_PAGE, MADV_COLLAPSE) == 0 || some;
    }
    return PyBool_FromLong(some);
}

static PyMethodDef methods[] = {
    {"gather", do_gather, METH_NOARGS, gather_doc},
    {"settle", do_settle, METH_NOARGS, settle_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_arenas",
    .m_doc = "The interpreter's objects in one range of memory, on huge pages.",
    .m_size = -1,
    .m_methods = methods,
};

PyMODINIT_FUNC
PyInit__arenas(void)
{
    return PyModule_Create(&module_def);
}
