/* _counted.c - see _counted.h. */
#include "_counted.h"

/**
 * counted_rules() - what each rule and policy counted
 * @firewall:	the firewall; NULL has no rules
 *
 * Return: a list of (identity, packets, bytes), or NULL with an exception
 */
PyObject *
counted_rules(const struct firewall *firewall)
{
    size_t size = firewall == NULL ? 0 : firewall_size(firewall);
    PyObject *rows = PyList_New((Py_ssize_t)size);

    for (size_t i = 0; rows != NULL && i < size; i++) {
        struct firewall_count count = {0};

        firewall_count(firewall, i, &count);
        PyObject *row =
            Py_BuildValue("KKK", (unsigned long long)count.identity,
                          (unsigned long long)count.packets, (unsigned long long)count.bytes);
        if (row == NULL)
            Py_CLEAR(rows);
        else
            PyList_SET_ITEM(rows, (Py_ssize_t)i, row);
    }
    return rows;
}

/**
 * counted_totals() - what all rules did
 * @firewall:	the firewall; NULL did nothing
 *
 * Return: a dict by the names of struct firewall_totals, or NULL with an exception
 */
PyObject *
counted_totals(const struct firewall *firewall)
{
    struct firewall_totals t = {0};

    if (firewall != NULL)
        firewall_totals(firewall, &t);
    return Py_BuildValue(
        "{sKsKsKsKsKsKsKsKsK}", "accepted", (unsigned long long)t.accepted, "dropped",
        (unsigned long long)t.dropped, "rejected", (unsigned long long)t.rejected, "impossible",
        (unsigned long long)t.impossible, "orphan_fragments",
        (unsigned long long)t.orphan_fragments, "no_room", (unsigned long long)t.no_room,
        "evicted", (unsigned long long)t.evicted, "notes_lost", (unsigned long long)t.notes_lost,
        "connections", (unsigned long long)t.connections);
}
