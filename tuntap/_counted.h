/* _counted.h - what a firewall counted, as Python's objects. */
#ifndef DONJON_COUNTED_H
#define DONJON_COUNTED_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "firewall.h"

PyObject *counted_rules(const struct firewall *firewall);
PyObject *counted_totals(const struct firewall *firewall);

#endif
